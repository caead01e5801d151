"""Settings: the only reader of the environment."""

import tomllib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain.pools import Region, Topology
from app.domain.profiles import DEFAULT_PROFILE, PROFILES, Profile


class ConfigError(Exception):
    """One sentence for the person who starts a process; it ends with exit status 78 (EX_CONFIG)."""


class Settings(BaseSettings):
    """Every number that an operator may want to change, with its default.

    Variables are the field names in capitals. Only DATABASE_URL, REDIS_URL, OBJECTS_URL and
    SECRET_KEY have no default.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_url: str
    redis_url: str
    objects_url: str
    # Signs object URLs and derives webhook secrets, so a guessable one would open both.
    secret_key: Annotated[str, Field(min_length=32, repr=False)]
    broker_url: str = ""  # default: redis_url
    s3_endpoint_url: str = ""
    s3_public_endpoint_url: str = ""
    public_url: str = "http://127.0.0.1:8000"

    # Proxies in front of the API that append to X-Forwarded-For; with 0 the header is not believed.
    trusted_proxies: Annotated[int, Field(ge=0, le=8)] = 0
    # Where people look at tasks and workers; the operations page links to it.
    flower_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""

    region: str = "local"  # where this process runs; the API's is a job's default home
    regions_file: Path | None = None
    outbound_allow: str = ""  # "host:port,...": exceptions to the SSRF guard

    served_profiles: Annotated[tuple[str, ...], NoDecode] = (DEFAULT_PROFILE,)  # the API's
    model_profile: str = DEFAULT_PROFILE  # a worker's
    model_dir: Path | None = None  # default: the weights that ship with the package
    model_dtype: Literal["auto", "bf16", "fp32"] = "auto"
    # How a worker runs the network. See workers/pipeline/compile.py.
    model_graph: Literal["eager", "torchscript", "compile"] = "torchscript"
    # Denoising steps of new jobs for MODEL_PROFILE; 0: the profile's own. The student is distilled
    # for its own number; others are for the teacher, which it was distilled from at 32.
    model_steps: Annotated[int, Field(ge=0, le=32)] = 0
    noop_step_s: Annotated[float, Field(ge=0)] = 0.0  # the noop profile's time per step
    noop_warm_up_s: Annotated[float, Field(ge=0)] = 0.0
    ready_file: Path | None = None  # a worker touches it once it is warm

    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 10
    database_timeout_s: Annotated[float, Field(gt=0)] = 5.0  # connect and statement
    redis_timeout_s: Annotated[float, Field(gt=0)] = 0.5
    claim_timeout_s: Annotated[float, Field(gt=0)] = 0.05

    max_upload_mb: Annotated[int, Field(ge=1, le=100)] = 25
    normaliser_processes: Annotated[int, Field(ge=1, le=16)] = 1
    signed_url_s: Annotated[int, Field(ge=10, le=604_800)] = 3600
    api_threads: Annotated[int, Field(ge=1, le=256)] = 8
    place_batch: Annotated[int, Field(ge=1, le=500)] = 64
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = (
        0  # of a dispatcher or GPU worker; 0: none
    )
    log_level: str = "info"

    @field_validator("served_profiles", mode="before")
    @classmethod
    def split_names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("served_profiles", "model_profile")
    @classmethod
    def known_profile(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        for name in (value,) if isinstance(value, str) else value:
            if name not in PROFILES:
                raise ValueError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
        return value

    def steps_of(self, profile: Profile) -> int:
        """Denoising steps of a new job."""
        own = self.model_steps == 0 or profile.name != self.model_profile
        return profile.steps if own else self.model_steps

    @property
    def broker(self) -> str:
        return self.broker_url or self.redis_url

    @property
    def sqlalchemy_url(self) -> str:
        """The database URL with psycopg 3 named as its driver."""
        for scheme in ("postgresql://", "postgres://"):
            if self.database_url.startswith(scheme):
                return "postgresql+psycopg://" + self.database_url.removeprefix(scheme)
        return self.database_url

    @cached_property
    def topology(self) -> Topology:
        """The regions of REGIONS_FILE, or this process's region alone."""
        if self.regions_file is None:
            return Topology([Region(self.region)])
        topology = load_regions(self.regions_file)
        if self.region not in topology:
            raise ConfigError(f"REGION {self.region!r} is not in {self.regions_file}.")
        return topology


def load_regions(path: Path) -> Topology:
    """Read `[[region]]` tables: name, rtt_ms = {other = ms}, optional broker_url and redis_url.

    Raises ConfigError.
    """
    try:
        tables = tomllib.loads(path.read_text())["region"]
        return Topology(
            Region(
                name=table["name"],
                rtt_ms=table.get("rtt_ms", {}),
                broker_url=table.get("broker_url", ""),
                redis_url=table.get("redis_url", ""),
            )
            for table in tables
        )
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    except KeyError as error:
        raise ConfigError(f"{path}: {error} is missing.") from error
    except (tomllib.TOMLDecodeError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {error}.") from error


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings, read once. Raises ConfigError."""
    try:
        return Settings()  # type: ignore[call-arg]  # the environment fills them
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError("; ".join(lines)) from None
