"""The regions file: TOML that lists the regions, their round trips, Redis and broker URLs.

    [[region]]
    name = "us-east"
    rtt_ms = { eu-west = 80 }                  # to every other region; symmetric
    redis_url = "redis://us.example:6379/0"    # default: REDIS_URL
    broker_url = "amqp://us.example"           # default: redis_url, then BROKER_URL

    [rings]                                    # optional; defaults: domain.routing.topology.Rings
    near_ms = 40
    far_ms = 100
    near_up_to = 1.10                          # load of home above which the next ring opens
    far_up_to = 1.30
    widen = true

The only reader of these files. Every mistake is reported with its line number.
"""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from app.config.toml_file import Table, TomlFile, TomlFileError
from app.domain.routing.topology import Region, Rings, Topology, errors_in

REDIS = ("redis", "rediss")
BROKERS = (*REDIS, "amqp", "amqps")


class RegionsFileError(TomlFileError):
    """The file is not a valid regions file."""


# Messages never quote a URL: it may hold a password.
def _url_of(schemes: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            good = parts.scheme in schemes and parts.hostname and parts.port != 0
        except ValueError:  # a port that is not a number, an unclosed bracket
            good = False
        if not good:
            kinds = " or ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"must be a {kinds} URL with a host")
        if parts.scheme in REDIS and not re.fullmatch(r"/?\d*", parts.path):
            raise ValueError("may only have a database number as its path")
        return value

    return AfterValidator(check)


class _Region(Table):
    name: str
    rtt_ms: Annotated[dict[str, float], Field(default_factory=dict)]
    redis_url: Annotated[str, _url_of(REDIS)] = ""
    broker_url: Annotated[str, _url_of(BROKERS)] = ""


class _Rings(Table):
    near_ms: float = Rings.near_ms
    far_ms: float = Rings.far_ms
    near_up_to: float = Rings.near_up_to
    far_up_to: float = Rings.far_up_to
    widen: bool = Rings.widen


class _File(Table):
    regions: Annotated[list[_Region], Field(alias="region", default_factory=list)]
    rings: _Rings = _Rings()


def read(path: Path) -> Topology:
    """The topology that a regions file describes. Raises RegionsFileError, OSError."""
    toml = TomlFile(path, RegionsFileError)
    file = toml.check(_File)
    regions = [Region(**dict(region)) for region in file.regions]
    rings = Rings(**dict(file.rings))
    if found := [(error.sentence, error.where) for error in errors_in(regions, rings)]:
        toml.refuse(found)
    return Topology(regions, rings)
