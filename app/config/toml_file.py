"""Read and check a hand-written TOML file; report the line of every mistake."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

DECODER_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")

Where = tuple[str | int, ...]  # the keys and indexes that lead to a value


class Table(BaseModel):
    """A table with a fixed set of keys and types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


T = TypeVar("T", bound=Table)


@dataclass(frozen=True)
class Problem:
    path: Path
    line: int  # from 1
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.sentence}"


class TomlFileError(ValueError):
    """The file cannot be used. The message is its first problem."""

    def __init__(self, problems: list[Problem]):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = problems


class TomlFile:
    """One file, parsed. Every mistake is raised as an `error`."""

    def __init__(self, path: Path, error: type[TomlFileError]):
        """Raises OSError; raises `error` unless the file is UTF-8 and TOML."""
        self.path = path
        self._error = error
        try:
            self._text = path.read_text(encoding="utf-8")
            self._tables = tomllib.loads(self._text)
        except UnicodeDecodeError as wrong:
            line = wrong.object[: wrong.start].count(b"\n") + 1
            raise error([Problem(path, line, "is not UTF-8.")]) from None
        except tomllib.TOMLDecodeError as wrong:
            raise error([self._not_toml(str(wrong))]) from None

    def check(self, table: type[T], *, within: str = "", apart: str = "") -> T:
        """The file's content as a `table`. Raises `error`.

        `within`: only the sub-table of this name. `apart`: without this one, which somebody else
        checks.
        """
        content: Any = self._tables
        if within:
            content = content.get(within, {})
        elif isinstance(content.get(apart), dict):
            content = {name: value for name, value in content.items() if name != apart}
        try:
            return table.model_validate(content)
        except ValidationError as wrong:
            above = (within,) if within else ()
            errors = wrong.errors(include_url=False)
            self.refuse([(_sentence(item), (*above, *item["loc"])) for item in errors])

    def get(self, key: str) -> object:
        """A value as it stands in the file; None if it does not."""
        return self._tables.get(key)

    def line_of(self, *where: str | int) -> int:
        """The line of a value, or else of the innermost existing table around it."""
        return _Lines(self._text, self._tables).of(where)

    def refuse(self, found: list[tuple[str, Where]]) -> NoReturn:
        """Raise `error` for sentences about the values at these places."""
        lines = _Lines(self._text, self._tables)
        problems = [Problem(self.path, lines.of(where), f"{text}.") for text, where in found]
        raise self._error(sorted(problems, key=lambda problem: problem.line)) from None

    def _not_toml(self, message: str) -> Problem:
        place = DECODER_PLACE.search(message)
        line = int(place[1]) if place and place[1] else self._text.rstrip().count("\n") + 1
        sentence = DECODER_PLACE.sub("", message)
        return Problem(self.path, line, f"{sentence[:1].lower()}{sentence[1:]}.")


def _sentence(item: Any) -> str:
    """A pydantic error, reworded for a TOML file."""
    # An item of a list goes by the list's name.
    key = next((key for key in reversed(item["loc"]) if isinstance(key, str)), "this")
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    if item["type"] == "missing":
        return f"the key {key!r} is missing"
    message = re.sub(r"^(?:Input|String) should ", "must ", item["msg"])
    return f"{key} {message.removeprefix('Value error, ')}"


class _Lines:
    """Finds the line of a value in a TOML text.

    tomllib does not report lines, so this parses ever longer prefixes of the text: a value belongs
    to the statement after which it first exists. That works for every TOML syntax and takes
    milliseconds for a file of any sane length.
    """

    def __init__(self, text: str, tables: dict[str, Any]):
        self._tables = tables
        self._beginnings = list(_beginnings(text))

    def of(self, where: Where) -> int:
        """The line of the value at `where`, or else of the innermost existing table around it."""
        while where and not _holds(self._tables, where):
            where = where[:-1]
        if not where:
            return 1
        return next(line for line, tables in self._beginnings if _holds(tables, where))


def _beginnings(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each statement's first line, and the document up to its end."""
    lines = re.split(r"(?<=\n)", text)  # splitlines() knows more line ends than TOML does
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            tables = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # inside a multi-line statement
        yield start, tables
        start = end + 1


def _holds(value: Any, where: Where) -> bool:
    for key in where:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True
