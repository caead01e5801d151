"""What the API takes and what it shows.

No web framework here: the webhook worker shows jobs by the same `dump_job`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Row

from app.config import Settings
from app.domain.errors import BadRequest
from app.domain.job import JobState, Policy
from app.domain.lease import MAX_QUEUE_LIMIT_S, MAX_QUEUE_S
from app.domain.webhooks import WebhookEvent
from app.objects import Objects

MAX_PROMPT_CHARS = 1000
MAX_DEADLINE_S = 604_800
MAX_MOTION = 2.0
MAX_SEED = 2**63 - 1  # what Postgres' bigint holds
MAX_FAULTS = 20  # reported of one request

# Postgres stores no NUL, and nobody means the others. Tab and line ends are text.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request; `pointer` is a JSON pointer (RFC 6901)."""

    code: str
    pointer: str
    detail: str


class Invalid(BadRequest):
    """A request whose fields are wrong: every fault at once, under the first one's code."""

    def __init__(self, faults: Sequence[Fault], *, status: int = 422):
        first = faults[0]
        super().__init__(first.code, first.detail, status=status, pointer=first.pointer)
        self.faults = list(faults)


def _printable(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters")
    return value


PRINTABLE = AfterValidator(_printable)


class Order(BaseModel):
    """What a client may ask for, beside the picture. None: the deployment's default."""

    # Strict: a JSON string is not a number. Forms have only strings and are read leniently.
    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARS), PRINTABLE] = ""
    model: str | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    frames: int | None = None
    fps: int | None = None
    size: Annotated[int | None, Field(description="Longest side of the clip, pixels.")] = None
    motion: Annotated[float, Field(ge=0, le=MAX_MOTION, description="Multiplies all motion.")] = 1.0
    loop: Annotated[bool, Field(description="There and back: the end meets the start.")] = False
    region: str | None = None
    policy: Policy = Policy.RING
    allowed_regions: Annotated[list[str], Field(min_length=1, max_length=64)] | None = None
    webhook_url: str | None = None
    webhook_events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=16)] | None = None
    metadata: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=64), PRINTABLE],
            Annotated[str, Field(max_length=512), PRINTABLE],
        ],
        Field(max_length=16),
    ] = {}
    max_queue_seconds: Annotated[int, Field(ge=10, le=int(MAX_QUEUE_LIMIT_S))] = int(MAX_QUEUE_S)
    deadline_seconds: Annotated[int, Field(ge=1, le=MAX_DEADLINE_S)] | None = None
    priority: Annotated[
        int, Field(ge=0, le=2, description="0 paid, 1 interactive, 2 batch: 0 first, 2 shed first.")
    ] = 1


class JsonOrder(Order):
    """An order as JSON: the picture is a `data:` URI with base64, or an https URL."""

    image: Annotated[str, Field(min_length=1)]


class PageQuery(BaseModel):
    """The query of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: UUID | None = None
    state: JobState | None = None


M = TypeVar("M", bound=BaseModel)


def parse_json(model: type[M], body: bytes) -> M:
    """Read JSON strictly. Raises Invalid; 400 and `invalid_json` if it is no JSON."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Invalid(faults(error), status=_status(error)) from None


def parse_strings(model: type[M], values: dict[str, Any]) -> M:
    """Read a form's or query's strings. Raises Invalid."""
    try:
        return model.model_validate(values, strict=False)
    except ValidationError as error:
        raise Invalid(faults(error)) from None


def _status(error: ValidationError) -> int:
    return 400 if error.errors(include_input=False)[0]["type"] == "json_invalid" else 422


_CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "missing_field",
    "json_invalid": "invalid_json",
}


def faults(error: ValidationError) -> list[Fault]:
    """Pydantic's errors as faults. Values are left out: a log or an echo may not have them."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(part) for part in item["loc"] if part != "[key]"]
        code = _CODES.get(item["type"], "invalid_field")
        if item["type"] == "string_too_long" and path == ["prompt"]:
            code = "prompt_too_long"
        name = path[0][:64] if path else "body"
        text = item["msg"].removeprefix("Value error, ")
        found.append(Fault(code, pointer(*path), f"{name}: {text[:1].lower()}{text[1:]}."))
    # An unknown field says more than what else may be wrong, and comes last in pydantic's list.
    return sorted(found, key=lambda fault: fault.code != "unknown_field")[:MAX_FAULTS]


def pointer(*path: str) -> str:
    """A JSON pointer (RFC 6901) to a field, cut where a stranger's key is long."""
    return "".join(f"/{part[:64].replace('~', '~0').replace('/', '~1')}" for part in path)


class Region(BaseModel):
    home: str
    policy: Policy
    allowed: list[str] | None
    current: str | None  # of the current or last placement; None while queued


class Progress(BaseModel):
    step: int
    steps: int


class Queue(BaseModel):
    position: int  # jobs that are taken first


class Output(BaseModel):
    url: str  # signed; a new one with every answer
    expires_at: datetime
    content_type: Literal["video/mp4"] = "video/mp4"
    size_bytes: int


class JobError(BaseModel):
    code: str
    message: str


class Attempt(BaseModel):
    number: int  # the fence
    region: str
    worker: str | None
    placed_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    error_code: str | None
    hops: list[dict[str, Any]]


class Urls(BaseModel):
    self: str
    cancel: str
    video: str


class Job(BaseModel):
    """A job as clients and webhook receivers see it. Times are RFC 3339, UTC."""

    id: UUID
    object: Literal["job"] = "job"
    state: JobState
    terminal: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime | None
    model: str
    prompt: str
    seed: int
    frames: int
    fps: int
    size: int
    motion: float
    loop: bool
    priority: int
    region: Region
    progress: Progress
    queue: Queue | None = None  # only while queued, and only where one job is asked for
    output: Output | None
    error: JobError | None
    attempts: list[Attempt] | None = None  # only where one job is asked for
    metadata: dict[str, str]
    webhook_url: str | None
    webhook_events: list[WebhookEvent] | None  # announced there; None: all
    urls: Urls


@dataclass(frozen=True)
class Links:
    """Makes the URLs in what is shown."""

    public_url: str
    objects: Objects
    signed_url_s: int

    @classmethod
    def of(cls, settings: Settings, objects: Objects) -> "Links":
        return cls(settings.public_url.rstrip("/"), objects, settings.signed_url_s)

    def output(self, row: Row[Any]) -> Output | None:
        """A freshly signed link to a job's clip."""
        if row.output_key is None:
            return None
        return Output(
            url=self.objects.signed_url(
                row.output_key,
                expires_s=self.signed_url_s,
                filename=f"{row.id}.mp4",
                content_type="video/mp4",
            ),
            expires_at=datetime.now(UTC).replace(microsecond=0)
            + timedelta(seconds=self.signed_url_s),
            size_bytes=row.output_bytes,
        )

    def urls(self, job_id: UUID) -> Urls:
        base = f"{self.public_url}/v1/jobs/{job_id}"
        return Urls(self=base, cancel=f"{base}/cancel", video=f"{base}/video")


def dump_job(
    row: Row[Any],
    links: Links,
    *,
    step: int | None = None,
    position: int | None = None,
    attempts: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A job's row as JSON values. `step`: a newer one than the row has, if somebody knows it."""
    state = JobState(row.state)
    return Job(
        id=row.id,
        state=state,
        terminal=state.terminal,
        created_at=_utc(row.created_at),
        started_at=_utc(row.started_at),
        finished_at=_utc(row.finished_at),
        deadline=_utc(row.deadline),
        model=row.profile,
        prompt=row.prompt,
        seed=row.seed,
        frames=row.frames,
        fps=row.fps,
        size=row.size,
        motion=row.motion,
        loop=row.loop,
        priority=row.priority,
        region=Region(
            home=row.home_region,
            policy=Policy(row.policy),
            allowed=row.allowed_regions,
            current=None if state is JobState.QUEUED else row.region,
        ),
        progress=Progress(step=_step(row, state, step), steps=row.steps),
        queue=None if position is None else Queue(position=position),
        output=links.output(row),
        error=None
        if row.error_code is None
        else JobError(code=row.error_code, message=row.error_detail or ""),
        attempts=None if attempts is None else [_attempt(attempt) for attempt in attempts],
        metadata=row._mapping["metadata"],
        webhook_url=row.webhook_url,
        webhook_events=row.webhook_events,
        urls=links.urls(row.id),
    ).model_dump(mode="json", exclude={"attempts"} if attempts is None else None)


def _step(row: Row[Any], state: JobState, known: int | None) -> int:
    if state is JobState.SUCCEEDED:
        return row.steps  # the row has the step of the last renewal, 5 s old at worst
    if state in (JobState.QUEUED, JobState.STARTING):
        return 0
    return min(row.steps, max(row.step, known or 0))


def _attempt(attempt: Mapping[str, Any]) -> Attempt:
    def moment(name: str) -> datetime | None:
        value = attempt[name]
        return None if value is None else _utc(datetime.fromisoformat(value))

    return Attempt(
        number=attempt["fence"],
        region=attempt["region"],
        worker=attempt["worker"],
        placed_at=moment("placed_at"),
        begun_at=moment("begun_at"),
        ended_at=moment("ended_at"),
        outcome=attempt["outcome"],
        error_code=attempt["error_code"],
        hops=attempt["hops"],
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
