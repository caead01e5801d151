"""Settings: the only reader of the environment."""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.config import regions_file
from app.config.profiles_file import profiles_in
from app.config.regions_file import RegionsFileError
from app.config.secret import check_secret
from app.domain.job.profiles import DEFAULT_PROFILE, Profile
from app.domain.routing.admission import (
    BATCH_WAIT_S,
    INTERACTIVE_WAIT_LEAST_S,
    INTERACTIVE_WAIT_MOST_S,
)
from app.domain.routing.damping import PERIOD_S
from app.domain.routing.pacing import RETRY_FLOOR, RETRY_RATIO, THROTTLE_K, THROTTLE_WINDOW_S
from app.domain.routing.topology import Region, Topology
from app.domain.webhooks import OWNER_LIMIT


class ConfigError(Exception):
    """Invalid configuration, in one sentence for the operator. Exit status 78 (EX_CONFIG)."""


class ModelSettings(BaseSettings):
    """What engines read, and the commands that work on models alone. All have defaults."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    # A directory of profile files of your own, in addition to the profiles that ship.
    model_profiles: Path | None = None
    model_profile: str = DEFAULT_PROFILE  # for a GPU worker
    model_dir: Path | None = None  # default: the weights that ship with the package
    model_dtype: Literal["auto", "bf16", "fp32"] = "auto"
    # How a worker runs the network. See workers/pipeline/compile.py.
    model_graph: Literal["eager", "torchscript", "compile"] = "torchscript"
    # What finds a picture's subject: u2netp (packaged), another of rembg's names, an ONNX file with
    # or without "#sha256=..." behind it, or none. See workers/pipeline/matte_file.py.
    matte_model: str = "u2netp"
    # Denoising steps of new jobs for MODEL_PROFILE; 0 takes the profile's own number. The student
    # is distilled for that number; others are for the teacher, which ran 32 steps when distilled.
    model_steps: Annotated[int, Field(ge=0, le=32)] = 0
    # The noop profile: its time per step, how much that varies (the sigma of its logarithm), its
    # times to encode and to warm up, and the memory that a rendered clip claims to hold.
    noop_step_s: Annotated[float, Field(ge=0)] = 0.0
    noop_step_spread: Annotated[float, Field(ge=0, le=3)] = 0.0
    noop_encode_s: Annotated[float, Field(ge=0)] = 0.0
    noop_warm_up_s: Annotated[float, Field(ge=0)] = 0.0
    noop_clip_mb: Annotated[int, Field(ge=0)] = 0

    @field_validator("model_profiles")
    @classmethod
    def readable_profiles(cls, value: Path | None) -> Path | None:
        try:
            profiles_in(value)
        except OSError as error:
            raise ValueError(f"cannot read {error.filename}: {error.strerror}") from None
        return value

    @field_validator("model_profile")
    @classmethod
    def known_profile(cls, value: str, others: ValidationInfo) -> str:
        if "model_profiles" in others.data:  # or else it is wrong itself, which is reported
            known = profiles_in(others.data["model_profiles"])
            if value not in known:
                raise ValueError(f"unknown profile {value!r}; known: {', '.join(known)}")
        return value

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """Every profile by its name: those that ship and those of MODEL_PROFILES."""
        return profiles_in(self.model_profiles)

    def steps_of(self, profile: Profile) -> int:
        """Denoising steps of a new job."""
        own = self.model_steps == 0 or profile.name != self.model_profile
        return profile.steps if own else self.model_steps


class Settings(ModelSettings):
    """Everything an operator may want to change, with its default.

    The environment variables are the field names in capitals. Only DATABASE_URL, REDIS_URL,
    OBJECTS_URL and SECRET_KEY have no default.
    """

    database_url: str
    # Postgres itself, where DATABASE_URL is a PgBouncer in transaction mode.
    database_direct_url: str = ""
    redis_url: str  # for regions without one of their own
    objects_url: str
    # Signs object URLs and sessions and derives webhook secrets, so a guessable one would open all.
    secret_key: Annotated[str, Field(repr=False)]
    # While SECRET_KEY is being replaced: what this one has signed is accepted too, and webhooks are
    # signed with both.
    previous_secret_key: Annotated[str, Field(repr=False)] = ""
    broker_url: str = ""  # for regions without a broker or Redis of their own; default: redis_url
    # Of RabbitMQ. A queue cannot change its type, so quorum queues have names of their own.
    broker_queue_type: Literal["classic", "quorum"] = "classic"
    s3_endpoint_url: str = ""
    s3_public_endpoint_url: str = ""
    public_url: str = "http://127.0.0.1:8000"

    # Number of proxies in front of the API that append to X-Forwarded-For; 0 ignores the header.
    trusted_proxies: Annotated[int, Field(ge=0, le=8)] = 0
    # Flower's address; the operations page links to it.
    flower_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""

    region: str = "local"  # where this process runs; on the API, a job's default home
    regions_file: Path | None = None
    outbound_allow: str = ""  # "host:port,...": exceptions to the SSRF guard

    served_profiles: Annotated[tuple[str, ...], NoDecode] = (DEFAULT_PROFILE,)  # for the API
    # Rendered clips that a GPU worker may hold while it delivers them; over it, the next render
    # waits. A clip that is larger by itself is delivered before anything else renders.
    clip_memory_mb: Annotated[int, Field(ge=1)] = 512
    ready_file: Path | None = None  # touched by a worker once it is warm
    # Once this file exists, a GPU worker finishes its jobs and ends, as on SIGTERM. For notices
    # that a machine will be taken away.
    drain_file: Path | None = None

    # Content credentials: workers sign clips if both paths are set and `provenance` is on.
    provenance: bool = True
    provenance_cert: Path | None = None  # PEM: the signing certificate, then its issuers
    provenance_key: Annotated[Path | None, Field(validate_default=True)] = None  # PEM, unencrypted

    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 10
    database_timeout_s: Annotated[float, Field(gt=0)] = 5.0  # connect and statement
    redis_timeout_s: Annotated[float, Field(gt=0)] = 0.5
    claim_timeout_s: Annotated[float, Field(gt=0)] = 0.05

    max_upload_mb: Annotated[int, Field(ge=1, le=100)] = 25
    # Processes that decode pictures. One key has at most all but one of them.
    normaliser_processes: Annotated[int, Field(ge=1, le=16)] = 2
    signed_url_s: Annotated[int, Field(ge=10, le=604_800)] = 3600
    api_threads: Annotated[int, Field(ge=1, le=256)] = 8
    # Requests that only wait (event streams, `Prefer: wait`), in addition to `api_threads`.
    api_waiters: Annotated[int, Field(ge=0, le=700)] = 256
    # Requests whose body, or the picture at whose URL, is still arriving; in addition to both.
    api_receivers: Annotated[int, Field(ge=1, le=700)] = 128
    # How slowly a body may arrive: the longest pause, and time for a head; the least mean rate in
    # kB/s once that is over; the most for the whole body. See app/api/process/arrival.py.
    body_stall_s: Annotated[float, Field(gt=0)] = 10.0
    body_least_kb_s: Annotated[float, Field(gt=0)] = 16.0
    body_total_s: Annotated[float, Field(gt=0)] = 300.0
    # Limits of a key that has none of its own; 0: unlimited. Decision 60 says why these numbers.
    key_concurrency: Annotated[int, Field(ge=0)] = 0
    submits_per_minute: Annotated[int, Field(ge=0)] = 300
    upload_mb_per_day: Annotated[int, Field(ge=0)] = 10_000
    webhooks_in_flight: Annotated[int, Field(ge=0)] = OWNER_LIMIT  # for dispatcher and CPU worker
    retention_s: Annotated[int, Field(ge=60, le=31_536_000)] = 2_592_000  # a job's default: 30 days
    max_retention_s: Annotated[int, Field(ge=60, le=31_536_000)] = 31_536_000  # that it may ask for
    # Entry point in the group `stillmotion.safety` that checks prompts, pictures and clips.
    safety_check: str = ""
    place_batch: Annotated[int, Field(ge=1, le=500)] = 64

    # Traffic. Times in seconds; app/domain explains how they were chosen.
    controller_period_s: Annotated[float, Field(gt=0, le=60)] = PERIOD_S
    report_every_s: Annotated[float, Field(gt=0, le=10)] = 5.0
    assumed_service_s: Annotated[float, Field(gt=0)] = 4.0  # until a region has finished a job
    retry_ratio: Annotated[float, Field(ge=0, le=1)] = RETRY_RATIO  # of a region's first tries
    retry_floor: Annotated[int, Field(ge=1)] = RETRY_FLOOR  # per minute and dispatcher
    throttle_k: Annotated[float, Field(ge=1)] = THROTTLE_K
    throttle_window_s: Annotated[float, Field(gt=0)] = THROTTLE_WINDOW_S
    # Which submits are delayed briefly while their home runs hot: none, the batch class, or all.
    execution_delay: Literal["off", "batch", "all"] = "batch"
    admission: bool = True  # refuse submits whose predicted wait exceeds their class's bound
    interactive_wait_least_s: Annotated[float, Field(gt=0)] = INTERACTIVE_WAIT_LEAST_S
    interactive_wait_most_s: Annotated[float, Field(gt=0)] = INTERACTIVE_WAIT_MOST_S
    batch_wait_s: Annotated[float, Field(gt=0)] = BATCH_WAIT_S

    # Health checks and metrics of any process, without a key; 0: no internal port. The second name
    # is that of earlier releases.
    internal_port: Annotated[
        int,
        Field(ge=0, le=65_535, validation_alias=AliasChoices("internal_port", "metrics_port")),
    ] = 0
    internal_host: str = "127.0.0.1"  # the address to listen on
    # Where spans go, as OTLP over HTTP: the collector's address without /v1/traces. Empty: nowhere.
    otel_exporter_otlp_endpoint: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    log_level: str = "info"

    @field_validator("served_profiles", mode="before")
    @classmethod
    def split_names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("served_profiles")
    @classmethod
    def known_profiles(cls, value: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        for name in value:
            cls.known_profile(name, others)
        return value

    @field_validator("secret_key", "previous_secret_key")
    @classmethod
    def not_guessable(cls, value: str, info: ValidationInfo) -> str:
        if value or info.field_name == "secret_key":
            check_secret(value)
        return value

    @field_validator("max_retention_s")
    @classmethod
    def at_least_the_default(cls, value: int, others: ValidationInfo) -> int:
        if value < others.data.get("retention_s", 0):
            raise ValueError("must not be less than RETENTION_S")
        return value

    @field_validator("provenance_key")
    @classmethod
    def key_with_certificate(cls, value: Path | None, others: ValidationInfo) -> Path | None:
        if (value is None) != (others.data.get("provenance_cert") is None):
            raise ValueError("PROVENANCE_CERT and PROVENANCE_KEY must be set together")
        return value

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The key that signs, then the one that is accepted too while it is being replaced."""
        return tuple(key for key in (self.secret_key, self.previous_secret_key) if key)

    def redis_of(self, region: str) -> str:
        """The URL of a region's Redis. A job's row may still name a region that was removed."""
        own = self.topology[region].redis_url if region in self.topology else ""
        return own or self.redis_url

    def broker_of(self, region: str) -> str:
        """The URL of a region's broker. Raises KeyError for an unknown region."""
        own = self.topology[region]
        return own.broker_url or own.redis_url or self.broker_url or self.redis_url

    @property
    def sqlalchemy_url(self) -> str:
        """The database URL with psycopg 3 as its driver."""
        return _with_driver(self.database_url)

    @property
    def sqlalchemy_direct_url(self) -> str:
        """The same without a pooler in between."""
        return _with_driver(self.database_direct_url or self.database_url)

    @cached_property
    def topology(self) -> Topology:
        """The regions of REGIONS_FILE, or just this process's own region."""
        if self.regions_file is None:
            return Topology([Region(self.region)])
        topology = load_regions(self.regions_file)
        if self.region not in topology:
            raise ConfigError(f"REGION {self.region!r} is not in {self.regions_file}.")
        return topology


def _with_driver(url: str) -> str:
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def load_regions(path: Path) -> Topology:
    """The topology that a regions file describes. Raises ConfigError."""
    try:
        return regions_file.read(path)
    except RegionsFileError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings, read once. Raises ConfigError."""
    return _read(Settings)


def model_settings() -> ModelSettings:
    """The settings of models alone. Raises ConfigError."""
    return _read(ModelSettings)


S = TypeVar("S", bound=ModelSettings)


def _read(kind: type[S]) -> S:
    try:
        return kind()  # the environment fills it
    except ValidationError as error:
        lines = []
        for item in error.errors(include_input=False, include_url=False):
            name = ".".join(map(str, item["loc"])).upper()
            lines.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
        raise ConfigError("; ".join(lines)) from None
