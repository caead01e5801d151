"""The regions file: TOML that names the regions, their round trips, their Redis and broker.

    [[region]]
    name = "us-east"
    rtt_ms = { eu-west = 80 }                  # to every other region; the same both ways
    redis_url = "redis://us.example:6379/0"    # default: REDIS_URL
    broker_url = "amqp://us.example"           # default: redis_url; without that, BROKER_URL

    [rings]                                    # optional; defaults: domain.routing.topology.Rings
    near_ms = 40
    far_ms = 100
    near_up_to = 1.10                          # overload of home at which the next ring opens
    far_up_to = 1.30
    widen = true

The only reader of such files. Every fault is told with its line.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from app.domain.routing.topology import Region, Rings, Topology, errors_in

REDIS = ("redis", "rediss")
BROKERS = (*REDIS, "amqp", "amqps")
DECODER_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True)
class Problem:
    path: Path
    line: int  # from 1
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.sentence}"


class RegionsFileError(ValueError):
    """The file is not a regions file. Its text is the first of its problems."""

    def __init__(self, problems: list[Problem]):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = problems


# Messages never quote a URL: it may hold a password.
def _url_of(schemes: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            good = parts.scheme in schemes and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, brackets that do not close
            good = False
        if not good:
            kinds = " or ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"must be a URL of {kinds} with a host")
        if parts.scheme in REDIS and not re.fullmatch(r"/?\d*", parts.path):
            raise ValueError("must end with the number of a database, or nothing")
        return value

    return AfterValidator(check)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Region(_Table):
    name: str
    rtt_ms: dict[str, float] = {}
    redis_url: Annotated[str, _url_of(REDIS)] = ""
    broker_url: Annotated[str, _url_of(BROKERS)] = ""


class _Rings(_Table):
    near_ms: float = Rings.near_ms
    far_ms: float = Rings.far_ms
    near_up_to: float = Rings.near_up_to
    far_up_to: float = Rings.far_up_to
    widen: bool = Rings.widen


class _File(_Table):
    regions: Annotated[list[_Region], Field(alias="region")] = []
    rings: _Rings = _Rings()


def read(path: Path) -> Topology:
    """The topology that a regions file describes. Raises RegionsFileError, OSError."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RegionsFileError([Problem(path, line, "is not UTF-8.")]) from None
    except tomllib.TOMLDecodeError as error:
        raise RegionsFileError([_no_toml(path, text, str(error))]) from None
    try:
        file = _File.model_validate(tables)
    except ValidationError as error:
        found = [(_sentence(item), item["loc"]) for item in error.errors(include_url=False)]
    else:
        regions = [Region(**dict(region)) for region in file.regions]
        rings = Rings(**dict(file.rings))
        found = [(error.sentence, error.where) for error in errors_in(regions, rings)]
    if not found:
        return Topology(regions, rings)
    lines = _Lines(text, tables)
    problems = [Problem(path, lines.of(where), f"{sentence}.") for sentence, where in found]
    raise RegionsFileError(sorted(problems, key=lambda problem: problem.line))


def _no_toml(path: Path, text: str, message: str) -> Problem:
    place = DECODER_PLACE.search(message)
    line = int(place[1]) if place and place[1] else text.rstrip().count("\n") + 1
    sentence = DECODER_PLACE.sub("", message)
    return Problem(path, line, f"{sentence[:1].lower()}{sentence[1:]}.")


def _sentence(item: Any) -> str:
    """One of pydantic's errors, in words that fit a TOML file."""
    key = item["loc"][-1]
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    if item["type"] == "missing":
        return f"the key {key!r} is missing"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should ")
    return f"{key} must {message}" if message.startswith("be ") else f"{key} {message}"


class _Lines:
    """Where a value stands in a TOML text.

    tomllib does not tell, so the text's beginnings are parsed, one line longer each time: the
    statement after which the value is there is the one that gives it. Right for every way to write
    TOML, and milliseconds for a file of any sane length.
    """

    def __init__(self, text: str, tables: dict[str, Any]):
        self._tables = tables
        self._beginnings = list(_beginnings(text))

    def of(self, where: tuple[str | int, ...]) -> int:
        """The line of the value at `where`, or of the innermost table around it that is there."""
        while where and not _holds(self._tables, where):
            where = where[:-1]
        if not where:
            return 1
        return next(line for line, tables in self._beginnings if _holds(tables, where))


def _beginnings(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each statement's first line, and all tables up to its end."""
    lines = re.split(r"(?<=\n)", text)  # splitlines() knows more ends of lines than TOML does
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            tables = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # inside a statement of several lines
        yield start, tables
        start = end + 1


def _holds(value: Any, where: tuple[str | int, ...]) -> bool:
    for key in where:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True
