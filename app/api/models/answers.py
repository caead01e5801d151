"""Answers that views build as they go, as models: the document shows them, tests hold each to it.

Those that are built from a model stand beside the code that does: `schemas`, `webhook_schemas`,
`uploads`, `errors`.
"""

from datetime import date, datetime
from typing import Generic, Literal, TypeVar
from uuid import UUID

from pydantic import ConfigDict, Field, RootModel

from app.api.models.schemas import Job, Shown, WaitingFor
from app.api.models.webhook_schemas import Delivery, Secret, Webhook
from stillmotion.states import JobState, Policy

T = TypeVar("T")


class Page(Shown, Generic[T]):
    """A page of a list."""

    object: Literal["list"]
    data: list[T]
    has_more: bool
    next: UUID | None
    """The `after` of the following page; null on the last one."""


class JobPage(Page[Job]):
    """Jobs, newest first; those of a list have no `attempts`."""


class WebhookPage(Page[Webhook]):
    """All webhooks of a key."""


class DeliveryPage(Page[Delivery]):
    """Deliveries, newest first."""


class NewlyMadeWebhook(Webhook, Secret):
    """A webhook with its secret."""


class TimelineEntry(Shown):
    """One change of a job's state."""

    at: datetime
    event: JobState
    seconds: float | None
    """How long the state lasted; null for the present one and the end."""
    attempt: int | None = None
    region: str | None = None
    reason: str | None = None
    hops: list[dict[str, str | int | float | None]] | None = None
    """Of a placement: where it was refused before."""
    worker: str | None = None
    stages: dict[str, float] | None = None
    """Of a render: seconds by stage."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)


class Timeline(Shown):
    """What happened to a job, in order."""

    object: Literal["timeline"]
    job_id: UUID
    data: list[TimelineEntry]


class StreamedEvent(Shown):
    """One server-sent event. `status` comes on every change of state, `progress` on every step,
    `queue` now and then while the job waits, and `completed` once, at the end."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    event: Literal["status", "progress", "queue", "completed"]
    data: str
    """JSON. `status`: `state`, `terminal`, `at`, `attempt`, `region`, `reason`; `progress`: `step`,
    `steps`, `attempt`, `eta_seconds`, `at`; `queue`: as in `Job`, with `eta_seconds`; `completed`:
    the `Job`."""
    id: str | None = None
    """To send as `Last-Event-ID`; of events that move on."""


class EstimatedRegion(Shown):
    home: str
    policy: Policy
    allowed: list[str] | None
    predicted: str
    """The nearest one with an idle worker."""


class EstimatedQueue(Shown):
    position: int | None
    """Jobs that would be taken first; null: more than are counted."""
    wait_seconds: float | None


class Estimate(Shown):
    """What a submit would lead to."""

    object: Literal["estimate"]
    model: str
    region: EstimatedRegion
    queue: EstimatedQueue
    eta_seconds: float | None
    cost_units: float


class JobOrEstimate(RootModel[Job | Estimate]):
    """A job, or with `dry_run` what one would be."""


class Range(Shown):
    min: int
    max: int
    default: int


class Model(Shown):
    """A served model with its limits."""

    id: str
    object: Literal["model"]
    default: bool
    licence: str
    steps: int
    passes: int
    frames: Range
    fps: Range
    size: Range


class ModelList(Shown):
    object: Literal["list"]
    data: list[Model]


class RoutingTable(Shown):
    """The table that routes; `null`: not known."""

    version: int | None
    age_s: float | None
    mode: str
    pinned: bool
    overload: bool
    shed: float
    gap_points: float | None


class RegionNow(Shown):
    """A region's workers, queue, load and routing; `null`: not known."""

    id: str
    object: Literal["region"]
    default: bool
    rtt_ms: dict[str, float]
    ring: dict[str, str]
    ready: int | None
    busy: int | None
    waiting: int | None
    service_s: float | None
    demand: float | None
    """Jobs per second that were submitted here."""
    report_age_s: float | None
    ceiling: float | None
    load: float | None
    shares: dict[str, float] | None
    """Parts of this home's demand, by the region that serves them."""
    drained: bool
    cap: int | None


class RegionList(Shown):
    object: Literal["list"]
    table: RoutingTable
    data: list[RegionNow]


class Decisions(Shown):
    """What operators have put in force."""

    object: Literal["controls"]
    drained: list[str]
    caps: dict[str, int]
    drained_workers: list[str]
    pinned: bool
    unreached: list[str]
    """Regions whose Redis did not answer; they learn of it from the controller."""


class KeyName(Shown):
    id: UUID
    name: str


class AuditEntry(Shown):
    id: int
    at: datetime
    key: KeyName
    verb: str
    subject: str
    old: bool | int | None
    new: bool | int | None


class Audit(Shown):
    object: Literal["list"]
    data: list[AuditEntry]
    has_more: bool
    next: int | None


class SessionKey(KeyName):
    scopes: list[str]


class Session(Shown):
    """Which key a browser is signed in with."""

    object: Literal["session"]
    key: SessionKey | None


class UsageEntry(Shown):
    day: date
    model: str
    jobs: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    cost_units: float
    gpu_seconds: float


class Usage(Shown):
    """Jobs by the day of their submit and by model; days without jobs are left out."""

    object: Literal["usage"]
    start: date
    end: date
    data: list[UsageEntry]


class Percentiles(Shown):
    p50_seconds: float | None
    p99_seconds: float | None


class LiveCounts(Shown):
    queued: int
    starting: int
    processing: int


class EndedCounts(Shown):
    window_seconds: float
    sampled: int
    succeeded: int
    failed: int
    canceled: int
    expired: int


class Times(Shown):
    queue: Percentiles
    render: Percentiles


class RegionCounts(Shown):
    id: str
    idle: int | None
    """Null: the region's Redis does not answer."""
    busy: int
    waiting: int


class WaitingJob(Shown):
    id: UUID
    key: str
    state: JobState
    model: str
    home: str
    region: str | None
    policy: Policy
    priority: int
    waited_seconds: float
    expires_in_seconds: float
    waiting_for: WaitingFor | None
    backoff_seconds: float | None


class Reason(Shown):
    code: str | None
    message: str


class FailedJob(Shown):
    id: UUID
    state: JobState
    model: str
    region: str | None
    attempts_begun: int
    error: Reason
    finished_at: datetime


class Summary(Shown):
    """Live jobs, waiting jobs, times and failures of all keys."""

    object: Literal["ops_summary"]
    at: datetime
    flower_url: str | None
    jobs: LiveCounts
    counted_up_to: int
    ended: EndedCounts
    times: Times
    regions: list[RegionCounts]
    waiting: list[WaitingJob]
    failures: list[FailedJob]


class Alive(Shown):
    status: Literal["ok"]


class Ready(Shown):
    """`degraded`: jobs are accepted, and placed by polling."""

    status: Literal["ok", "degraded", "unavailable"]
    parts: dict[str, str]


class VideoError(Shown):
    code: str
    message: str


class Video(Shown):
    """A job in the words of OpenAI's clients. Times are Unix seconds."""

    id: UUID
    object: Literal["video"]
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(ge=0, le=100)
    created_at: int
    completed_at: int | None
    expires_at: int | None
    model: str
    prompt: str
    seconds: str
    size: str
    """The box that the clip fits into."""
    error: VideoError | None
    remixed_from_video_id: None


class VideoPage(Shown):
    object: Literal["list"]
    data: list[Video]
    has_more: bool
    first_id: UUID | None
    last_id: UUID | None


class DeletedVideo(Shown):
    id: UUID
    object: Literal["video.deleted"]
    deleted: Literal[True]
