"""A job's public form. Times are RFC 3339 in UTC, durations are seconds."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from app.domain.prompt.motions import CameraMotion, ObjectMotion, Strength, Target
from app.domain.prompt.wishes import Wish
from app.public.response_model import Identified, ResponseModel, may_lack
from stillmotion.signatures import WebhookEvent
from stillmotion.states import JobState, Policy


class Region(ResponseModel):
    home: str
    policy: Policy
    allowed: list[str] | None
    current: str | None
    """Region of the current or last placement; null while queued."""


class Progress(ResponseModel):
    """Denoising steps."""

    step: int
    steps: int


class WaitingFor(StrEnum):
    """What a queued job waits for."""

    WORKER = "worker"
    BACKOFF = "backoff"  # a pause after a failed attempt, or one that smooths a burst
    KEY_CONCURRENCY = "key_concurrency"  # an earlier job of the same key must end first


class Queue(ResponseModel):
    position: int
    """Number of jobs in front, with those of the same key that get a concurrency slot first."""
    wait_seconds: float | None
    """Expected time until the job starts; null if unknown."""
    waiting_for: WaitingFor
    workers: int | None
    """Workers that serve the model, and all that the job asks of it, where the job may run. 0: it
    waits until one starts; null: unknown."""


class Output(ResponseModel):
    url: str
    """Signed; every response carries a new one."""
    expires_at: datetime
    """When the URL expires; fetch the job again for a new one."""
    content_type: Literal["video/mp4"] = "video/mp4"
    size_bytes: int


class JobError(ResponseModel):
    """Why a job has no clip."""

    code: str
    message: str


class Attempt(ResponseModel):
    """One placement of a job on a region's workers."""

    number: int
    """The fence: it grows with every placement."""
    region: str
    worker: str | None
    """The host is shown to admin keys only."""
    placed_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    error_code: str | None
    timings: dict[str, float] | None
    """Seconds by stage: fetch, render, check, sign, upload."""
    hops: list[dict[str, Any]]
    """Where the job was refused, placed or lost, and why."""


class Metrics(ResponseModel):
    """Durations in seconds."""

    queue: float | None
    """From submit to the last start."""
    render: float | None
    """From the last start to the end."""
    total: float | None
    predicted: float | None
    """From submit to the end, as predicted at submit."""


class PromptUnderstood(ResponseModel):
    """What the model makes of the prompt. Null camera and object: the prompt asks for neither."""

    camera: CameraMotion | None
    object: ObjectMotion | None
    strength: Strength | None
    """Null if the clip is still or ambient."""
    target: Target | None
    """What alone the object motion moves. Null if it moves both, or the model cannot tell them
    apart."""
    excluded: list[CameraMotion | ObjectMotion]
    """Motions that the prompt refuses, as in "no zoom"."""
    unsupported: list[Wish]
    """What the prompt asks for that no motion model makes, such as "she blinks". It changes
    nothing in the clip."""
    hint: str | None
    """A sentence for people that says so; null if `unsupported` is empty."""
    ignored: list[str]
    """Words that have no effect, as written; function words such as "the" are left out."""
    ambient: bool
    """The prompt asks for no known motion, so the clip gets that of an empty prompt."""


class Urls(ResponseModel):
    self: str
    cancel: str
    video: str
    events: str
    timeline: str


class Job(Identified):
    """A job as clients and webhook receivers see it. Times are RFC 3339, UTC."""

    model_config = ConfigDict(json_schema_extra=may_lack("attempts"))

    object: Literal["job"] = "job"
    state: JobState
    terminal: bool
    """Whether the state is final."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime | None
    expires_at: datetime | None
    """When picture and clip are removed; null until the job has ended."""
    retention_seconds: int
    model: str
    prompt: str
    negative_prompt: str
    """Empty: the model's own, if it has one."""
    prompt_understood: PromptUnderstood | None
    """Null if the model takes free text, or the job's texts are gone."""
    seed: int
    frames: int
    fps: int
    size: int
    """Longest side of the clip, pixels, at most: pictures are not enlarged."""
    width: int | None
    """Width of the clip, pixels; null if the model renders a size of its own."""
    height: int | None
    """Height of the clip, pixels, as `width`."""
    motion: float
    loop: bool
    priority: int
    cost_units: float
    region: Region
    progress: Progress
    eta_seconds: float | None = None
    """Time until the end; only when fetching a single job."""
    queue: Queue | None = None
    """Only while queued, and only when fetching a single job."""
    output: Output | None
    """The clip; null until the job has succeeded."""
    error: JobError | None
    attempts: Annotated[list[Attempt] | None, Field(exclude_if=lambda value: value is None)] = None
    """Only when fetching a single job."""
    metrics: Metrics
    metadata: dict[str, str]
    webhook_url: str | None
    webhook_events: list[WebhookEvent] | None
    """Events sent to `webhook_url`; null: all of them."""
    urls: Urls
