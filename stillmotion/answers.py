"""What the API answers, typed. A field that a newer server adds is passed over here, and in `raw`.

Times are aware, in UTC. `raw` is the JSON as it came, of an answer and of each part of it.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Self
from uuid import UUID

import httpx
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from stillmotion.errors import UnexpectedAnswer
from stillmotion.states import JobState

# A state that this client is too old to know stays the server's word; `terminal` tells its meaning.
State = Annotated[JobState | str, Field(union_mode="left_to_right")]


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    _raw: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_raw(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        answer = handler(value)
        if isinstance(value, Mapping):
            answer._raw = value
        return answer

    @property
    def raw(self) -> Mapping[str, Any]:
        return self._raw

    @classmethod
    def of(cls, value: Any) -> Self:
        """Read JSON that the server sent. Raises UnexpectedAnswer."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = "/".join(map(str, first["loc"])) or "all of it"
            raise UnexpectedAnswer(f"The server's answer is none of this API: {where}.") from None


def json_of(answer: httpx.Response) -> Any:
    """Raises UnexpectedAnswer."""
    try:
        return answer.json()
    except ValueError:
        raise UnexpectedAnswer(f"What answers at {answer.url} is none of this API.") from None


class Region(Answer):
    home: str
    policy: str
    allowed: list[str] | None
    current: str | None  # of the current or last placement; None while queued


class Progress(Answer):
    step: int
    steps: int


class Queue(Answer):
    position: int  # jobs that are taken first
    wait_seconds: float | None  # until it is expected to begin; None: not known
    waiting_for: str  # worker, backoff, key_concurrency


class Output(Answer):
    url: str  # signed, and short-lived: ask for the job again to get another
    expires_at: datetime
    content_type: str
    size_bytes: int


class JobError(Answer):
    code: str
    message: str


class Attempt(Answer):
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


class Metrics(Answer):
    """Seconds; `predicted` from submit to the end, as foretold at submit."""

    queue: float | None
    render: float | None
    total: float | None
    predicted: float | None


class Job(Answer):
    id: str
    state: State
    terminal: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime | None
    expires_at: datetime | None  # picture and clip are removed then
    retention_seconds: int
    model: str
    prompt: str
    seed: int
    frames: int
    fps: int
    size: int
    motion: float
    loop: bool
    priority: int
    cost_units: float
    region: Region
    progress: Progress
    eta_seconds: float | None = None  # until the end; None in lists, or not known
    queue: Queue | None = None  # only while queued, not in lists
    output: Output | None
    error: JobError | None
    attempts: list[Attempt] | None = None  # None in lists
    metrics: Metrics
    metadata: dict[str, str] = {}  # a webhook that is long goes without
    webhook_url: str | None
    webhook_events: list[str] | None
    urls: dict[str, str]


class EstimatedRegion(Answer):
    home: str
    policy: str
    allowed: list[str] | None
    predicted: str


class EstimatedQueue(Answer):
    position: int | None  # None: more than are counted
    wait_seconds: float | None


class Estimate(Answer):
    """What a submit would come to."""

    model: str
    region: EstimatedRegion
    queue: EstimatedQueue
    eta_seconds: float | None
    cost_units: float


class Upload(Answer):
    """A picture in storage; submit it, any number of times, until `expires_at`."""

    id: UUID
    url: str
    size_bytes: int
    url_expires_at: datetime
    expires_at: datetime


class Event(Answer):
    """One event of a job; `data` is its JSON as it came.

    `id`: to resume behind it. None: that moves no place.
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
    eta_seconds: float | None


class CompletedEvent(Event):
    """The last one."""

    job: Job


class TimelineEntry(Answer):
    """One change of state; `seconds`: how long that state lasted, None for the present one."""

    at: datetime
    event: State
    seconds: float | None
    attempt: int | None = None
    region: str | None = None
    reason: str | None = None
    worker: str | None = None
    stages: dict[str, float] | None = None
    hops: list[dict[str, Any]] | None = None


class UsageOfDay(Answer):
    day: date
    model: str
    jobs: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    cost_units: float
    gpu_seconds: float


class Usage(Answer):
    """One entry per day (UTC) and model that has jobs."""

    start: date
    end: date
    data: list[UsageOfDay]


class Webhook(Answer):
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


class Secret(Answer):
    secret: str
    previous_secret_until: datetime | None  # until then the one before signs as well


class Delivery(Answer):
    id: UUID  # the `webhook-id` of every try
    webhook_id: UUID | None  # None: to the address that the job names
    job_id: UUID | None  # None: a test
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


class Limits(Answer):
    min: int
    max: int
    default: int


class Model(Answer):
    id: str
    default: bool
    licence: str
    steps: int
    passes: int
    frames: Limits
    fps: Limits
    size: Limits


class RegionLoad(Answer):
    """A region as it is now; None: not known."""

    id: str
    default: bool
    rtt_ms: dict[str, float]
    ready: int | None
    busy: int | None
    waiting: int | None
    load: float | None
    ceiling: float | None
    shares: dict[str, float] | None
    drained: bool
    cap: int | None


class RoutingTable(Answer):
    version: int | None
    age_s: float | None
    mode: str
    pinned: bool


class Regions(Answer):
    table: RoutingTable
    data: list[RegionLoad]


class Key(Answer):
    id: UUID
    name: str


class AuditEntry(Answer):
    """An operator's verb, with the value before and after."""

    id: int
    at: datetime
    key: Key
    verb: str
    subject: str
    old: Any
    new: Any


class Decided(Answer):
    """Every decision that is in force. `unreached`: regions that learn of the new one later."""

    drained: list[str]
    caps: dict[str, int]
    drained_workers: list[str]
    pinned: bool
    unreached: list[str]
