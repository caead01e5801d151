"""The API's responses as typed models.

Times are aware, in UTC. Every model, nested ones included, keeps the JSON that it was read from in
`raw`. Fields that a newer server adds are ignored here but are present in `raw`.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from stillmotion.errors import UnexpectedResponse
from stillmotion.states import JobState

# A state that is newer than this client stays the server's word; `terminal` still says enough.
State = Annotated[JobState | str, Field(union_mode="left_to_right")]


class ApiModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    _raw: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_raw(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        model = handler(value)
        if isinstance(value, Mapping):
            model._raw = value
        return model

    @property
    def raw(self) -> Mapping[str, Any]:
        return self._raw

    @classmethod
    def of(cls, value: Any, source: str) -> Self:
        """Read JSON that `source` sent. Raises UnexpectedResponse."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            pointer = "".join(f"/{part}" for part in first["loc"]) or "the whole body"
            raise UnexpectedResponse(source, f"{pointer}: {first['msg']}") from None


class Region(ApiModel):
    home: str
    policy: str
    allowed: list[str] | None
    current: str | None  # of the current or last placement; None while queued


class Progress(ApiModel):
    step: int
    steps: int


class Queue(ApiModel):
    position: int  # jobs ahead of this one
    wait_seconds: float | None  # until it is expected to start; None: unknown
    waiting_for: str  # worker, backoff, key_concurrency
    workers: int | None = None  # that serve the model; 0: it waits until one starts; None: unknown


class Output(ApiModel):
    url: str  # signed and short-lived: get the job again for a fresh one
    expires_at: datetime
    content_type: str
    size_bytes: int


class JobError(ApiModel):
    code: str
    message: str


class Attempt(ApiModel):
    number: int
    region: str
    worker: str | None
    placed_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    error_code: str | None
    timings: dict[str, float] | None  # seconds by stage
    hops: list[dict[str, Any]]


class Metrics(ApiModel):
    """Seconds. `predicted` is the estimate made at submit, from submit to the end."""

    queue: float | None
    render: float | None
    total: float | None
    predicted: float | None


class PromptUnderstood(ApiModel):
    """What the model makes of a prompt. None: the prompt says nothing of it."""

    camera: str | None
    object: str | None
    strength: str | None
    excluded: list[str]  # motions that the prompt refuses
    ignored: list[str]  # words without effect
    ambient: bool  # the prompt asks for no known motion
    # The rest is missing in what an older server says.
    target: str | None = None  # what alone the object motion moves: "subject" or "background"
    unsupported: list[str] = []  # what it asks for that no motion model makes, such as "blink"
    hint: str | None = None  # a sentence that says so


class Job(ApiModel):
    id: str
    state: State
    terminal: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime | None
    expires_at: datetime | None  # when picture and clip are removed
    retention_seconds: int
    model: str
    prompt: str
    negative_prompt: str = ""
    prompt_understood: PromptUnderstood | None = None  # None: free text, or an older server
    seed: int
    frames: int
    fps: int
    size: int  # longest side of the clip in pixels, at most
    width: int | None = None  # of the clip, pixels; None: the model renders a size of its own
    height: int | None = None
    motion: float
    loop: bool
    priority: int
    cost_units: float
    region: Region
    progress: Progress
    eta_seconds: float | None = None  # until the end; None in lists, or if unknown
    queue: Queue | None = None  # only while queued, and not in lists
    output: Output | None
    error: JobError | None
    attempts: list[Attempt] | None = None  # None in lists
    metrics: Metrics
    metadata: dict[str, str] = {}  # left out of webhook messages that would be too long
    webhook_url: str | None
    webhook_events: list[str] | None
    urls: dict[str, str]


class EstimatedRegion(ApiModel):
    home: str
    policy: str
    allowed: list[str] | None
    predicted: str


class EstimatedQueue(ApiModel):
    position: int | None  # None: too many to count
    wait_seconds: float | None
    workers: int | None = None  # as in Queue


class Estimate(ApiModel):
    """The result of a dry run."""

    model: str
    prompt_understood: PromptUnderstood | None = None
    region: EstimatedRegion
    queue: EstimatedQueue
    eta_seconds: float | None
    cost_units: float


class Upload(ApiModel):
    """A picture in storage. It can be submitted any number of times until `expires_at`."""

    id: UUID
    url: str
    size_bytes: int
    url_expires_at: datetime
    expires_at: datetime


class Event(ApiModel):
    """An event of a job; `data` is its JSON as received.

    A stream can resume after an event that has an `id`.
    """

    name: str
    id: str | None
    data: dict[str, Any]


class StatusEvent(Event):
    state: State
    terminal: bool
    at: datetime
    attempt: int | None
    region: str | None
    reason: str | None


class ProgressEvent(Event):
    step: int
    steps: int
    attempt: int
    eta_seconds: float | None
    at: datetime


class QueueEvent(Event):
    position: int
    wait_seconds: float | None
    waiting_for: str
    workers: int | None = None  # as in Queue
    eta_seconds: float | None


class CompletedEvent(Event):
    """The last event of a job."""

    job: Job


class TimelineEntry(ApiModel):
    """A change of state. `seconds` is how long the state lasted; None for the current one."""

    at: datetime
    event: State
    seconds: float | None
    attempt: int | None = None
    region: str | None = None
    reason: str | None = None
    worker: str | None = None
    stages: dict[str, float] | None = None
    hops: list[dict[str, Any]] | None = None


class UsageOfDay(ApiModel):
    day: date
    model: str
    jobs: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    cost_units: float
    gpu_seconds: float


class Usage(ApiModel):
    """One entry per day (UTC) and model with jobs."""

    start: date
    end: date
    data: list[UsageOfDay]


class Webhook(ApiModel):
    id: UUID
    url: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None  # gone, failing, owner
    disabled_at: datetime | None
    created_at: datetime
    previous_secret_until: datetime | None


class NewWebhook(Webhook):
    secret: str


class Secret(ApiModel):
    secret: str
    previous_secret_until: datetime | None  # the previous secret signs too until then


class Delivery(ApiModel):
    id: UUID  # the `webhook-id` header of every try
    webhook_id: UUID | None  # None: sent to the URL that the job names
    job_id: UUID | None  # None: a test event
    event: str
    url: str
    state: str  # pending, delivered, failed
    tries: int
    created_at: datetime
    last_tried_at: datetime | None
    next_try_at: datetime | None
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None


class Limits(ApiModel):
    min: int
    max: int
    default: int


class FrameLimits(Limits):
    multiple: int = 1  # a clip has multiple * k + plus frames
    plus: int = 0


class Size(ApiModel):
    width: int
    height: int


class Model(ApiModel):
    id: str
    default: bool
    licence: str
    licence_limits: str | None = None  # what the licence forbids, in words
    steps: int
    passes: int
    frames: FrameLimits
    fps: Limits
    size: Limits
    sizes: list[Size] | None = None  # all that it renders; None: any, in the picture's shape
    options: list[str] | None = None  # what it uses, such as prompt; None: an older server


class RegionLoad(ApiModel):
    """The present state of a region. None: unknown."""

    id: str
    state: str | None = None  # serving, drained, no_workers, unknown; None: an older server
    default: bool
    rtt_ms: dict[str, float]
    ready: int | None
    busy: int | None
    waiting: int | None
    load: float | None  # None, too: it has no capacity
    ceiling: float | None
    shares: dict[str, float] | None
    drained: bool
    cap: int | None


class WorkerSetup(ApiModel):
    """A GPU worker process, and how far it is with its set-up."""

    id: str
    region: str
    model: str
    phase: str  # loading, compiling, warming, ready, failed
    since: datetime
    log: list[str]  # the last lines of the set-up


class Workers(ApiModel):
    """`unreached`: regions that did not answer. `has_more`: a region has more than are shown."""

    data: list[WorkerSetup]
    has_more: bool
    unreached: list[str]


class RoutingTable(ApiModel):
    version: int | None
    age_s: float | None
    mode: str
    pinned: bool


class Regions(ApiModel):
    table: RoutingTable
    data: list[RegionLoad]


class Key(ApiModel):
    id: UUID
    name: str


class AuditEntry(ApiModel):
    """An operator's decision, with the value before and after."""

    id: int
    at: datetime
    key: Key
    verb: str
    subject: str
    old: Any
    new: Any


class Decisions(ApiModel):
    """All decisions in force. The regions in `unreached` will learn of the new one later."""

    drained: list[str]
    caps: dict[str, int]
    drained_workers: list[str]
    pinned: bool
    unreached: list[str]
