"""What the API takes and what it shows.

No web framework here: the webhook worker shows jobs by the same `dump_job`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from sqlalchemy import Row

from app.config.settings import Settings
from app.domain.errors import BadRequest
from app.objects import Objects
from stillmotion.signatures import WebhookEvent
from stillmotion.states import JobState, Policy

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
# The same for the reader of the document, who may check before sending.
PRINTABLE_PATTERN = {"pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"}


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one kind of number: 16.0 is the integer 16, also where a string "16" is none.
WHOLE = BeforeValidator(_whole)

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


class Shown(BaseModel):
    """A part of an answer. What stands under a field is its description in the document."""

    model_config = ConfigDict(
        use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )


class Region(Shown):
    home: str
    policy: Policy
    allowed: list[str] | None
    current: str | None
    """Of the current or last placement; null while queued."""


class Progress(Shown):
    """Denoising steps."""

    step: int
    steps: int


class WaitingFor(StrEnum):
    """What a queued job waits for."""

    WORKER = "worker"
    BACKOFF = "backoff"  # a pause, after a failed attempt or to take the edge off a burst
    KEY_CONCURRENCY = "key_concurrency"  # an earlier job of the same key must end


class Queue(Shown):
    position: int
    """Jobs that are taken first."""
    wait_seconds: float | None
    """Until it is expected to begin; null: not known."""
    waiting_for: WaitingFor


class Output(Shown):
    url: str
    """Signed; a new one with every answer."""
    expires_at: datetime
    """The URL's end; ask for the job again then."""
    content_type: Literal["video/mp4"] = "video/mp4"
    size_bytes: int


class JobError(Shown):
    """Why a job has no clip."""

    code: str
    message: str


class Attempt(Shown):
    """One placement of a job on a region's workers."""

    number: int
    """The fence: it grows with every placement."""
    region: str
    worker: str | None
    placed_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    error_code: str | None
    timings: dict[str, float] | None
    """Seconds by stage: fetch, render, check, sign, upload."""
    hops: list[dict[str, Any]]
    """Where it was refused, placed, lost, and why."""


class Metrics(Shown):
    """Seconds."""

    queue: float | None
    """From submit to the last begin."""
    render: float | None
    """From there to the end."""
    total: float | None
    predicted: float | None
    """From submit to the end, as foretold at submit."""


class Urls(Shown):
    self: str
    cancel: str
    video: str
    events: str
    timeline: str


def may_lack(*names: str) -> Callable[[dict[str, Any]], None]:
    """What a model's `json_schema_extra` does where answers may lack these fields."""

    def change(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in names]

    return change


class Job(Shown):
    """A job as clients and webhook receivers see it. Times are RFC 3339, UTC."""

    model_config = ConfigDict(json_schema_extra=may_lack("attempts"))  # in lists

    id: UUID
    object: Literal["job"] = "job"
    state: JobState
    terminal: bool
    """Whether the state is the last one."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime | None
    expires_at: datetime | None
    """Picture and clip are removed then; null until the job has ended."""
    retention_seconds: int
    model: str
    prompt: str
    seed: int
    frames: int
    fps: int
    size: int
    """Longest side of the clip, pixels."""
    motion: float
    loop: bool
    priority: int
    cost_units: float
    region: Region
    progress: Progress
    eta_seconds: float | None = None
    """Until the end; only where one job is asked for."""
    queue: Queue | None = None
    """Only while queued, and only where one job is asked for."""
    output: Output | None
    """The clip; null until the job has succeeded."""
    error: JobError | None
    attempts: list[Attempt] | None = None
    """Only where one job is asked for."""
    metrics: Metrics
    metadata: dict[str, str]
    webhook_url: str | None
    webhook_events: list[WebhookEvent] | None
    """Announced there; null: all."""
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
        if row.output_key is None or row.purged_at is not None:
            return None
        now = datetime.now(UTC)
        valid_s = self.signed_url_s
        if row.expires_at is not None:  # no link outlives what it leads to
            valid_s = max(1, min(valid_s, int((row.expires_at - now).total_seconds())))
        return Output(
            url=self.objects.signed_url(
                row.output_key,
                expires_s=valid_s,
                filename=f"{row.id}.mp4",
                content_type="video/mp4",
            ),
            expires_at=now.replace(microsecond=0) + timedelta(seconds=valid_s),
            size_bytes=row.output_bytes,
        )

    def urls(self, job_id: UUID) -> Urls:
        base = f"{self.public_url}/v1/jobs/{job_id}"
        return Urls(
            self=base,
            **{name: f"{base}/{name}" for name in ("cancel", "video", "events", "timeline")},
        )


def dump_job(
    row: Row[Any],
    links: Links,
    *,
    step: int | None = None,
    queue: Queue | None = None,
    eta_s: float | None = None,
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
        expires_at=_utc(row.expires_at),
        retention_seconds=row.retention_s,
        model=row.profile,
        prompt=row.prompt,
        seed=row.seed,
        frames=row.frames,
        fps=row.fps,
        size=row.size,
        motion=row.motion,
        loop=row.loop,
        priority=row.priority,
        cost_units=round(row.cost, 4),
        region=Region(
            home=row.home_region,
            policy=Policy(row.policy),
            allowed=row.allowed_regions,
            current=None if state is JobState.QUEUED else row.region,
        ),
        progress=Progress(step=step_of(row, step), steps=row.steps),
        eta_seconds=None if eta_s is None else round(eta_s, 3),
        queue=queue,
        output=links.output(row),
        error=None
        if row.error_code is None
        else JobError(code=row.error_code, message=row.error_detail or ""),
        attempts=None if attempts is None else [_attempt(attempt) for attempt in attempts],
        metrics=_metrics(row),
        metadata=row.metadata,
        webhook_url=row.webhook_url,
        webhook_events=row.webhook_events,
        urls=links.urls(row.id),
    ).model_dump(mode="json", exclude={"attempts"} if attempts is None else None)


def step_of(row: Row[Any], known: int | None) -> int:
    """The step to show of a job. `known`: a newer one than the row has, if somebody knows it."""
    state = JobState(row.state)
    if state is JobState.SUCCEEDED:
        return row.steps  # the row has the step of the last renewal, 5 s old at worst
    if state in (JobState.QUEUED, JobState.STARTING):
        return 0
    return min(row.steps, max(row.step, known or 0))


def _metrics(row: Row[Any]) -> Metrics:
    def between(start: datetime | None, end: datetime | None) -> float | None:
        return None if start is None or end is None else round((end - start).total_seconds(), 3)

    return Metrics(
        queue=between(row.created_at, row.started_at),
        render=between(row.started_at, row.finished_at),
        total=between(row.created_at, row.finished_at),
        predicted=None if row.predicted_s is None else round(row.predicted_s, 3),
    )


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
        timings=attempt["timings"],
        hops=attempt["hops"],
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
