"""What a client may ask for when it submits a job, and the estimate that a dry run returns."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, RootModel
from pydantic.config import JsonDict

from app.api.models.base import (
    PICTURE_URI,
    PRINTABLE,
    WHOLE,
    Labels,
    ModelName,
    PublicUrl,
    Query,
    RegionName,
    RequestBody,
    Text,
    served,
)
from app.domain.job.lease import MAX_QUEUE_LIMIT_S, MAX_QUEUE_S
from app.public.job import Job, PromptUnderstood
from app.public.response_model import ResponseModel
from stillmotion.signatures import WebhookEvent
from stillmotion.states import Policy

MAX_PROMPT_CHARS = 1000
MAX_DEADLINE_S = 604_800
MAX_MOTION = 2.0
MAX_SEED = 2**63 - 1  # the largest bigint in Postgres
MIN_RETENTION_S, MAX_RETENTION_S = 60, 31_536_000

QueueTime = Annotated[int, Field(ge=10, le=int(MAX_QUEUE_LIMIT_S)), WHOLE]
Retention = Annotated[int, Field(ge=MIN_RETENTION_S, le=MAX_RETENTION_S), WHOLE]


class JobRequest(RequestBody):
    """Everything a client may ask for except the picture. Null: the deployment's default."""

    upload_id: UUID | None = None
    """A picture sent through /v1/uploads, instead of `image`."""
    prompt: Annotated[str, Text(max_length=MAX_PROMPT_CHARS), PRINTABLE] = ""
    """What should move, and how the camera moves."""
    negative_prompt: Annotated[str, Text(max_length=MAX_PROMPT_CHARS), PRINTABLE] = ""
    """What the clip should not show, instead of the model's own. Few models take one: see
    `options` in /v1/models."""
    model: ModelName | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] | None = None
    """Null: a random one, shown in the job."""
    frames: Annotated[int, served("frames"), WHOLE] | None = None
    fps: Annotated[int, served("fps"), WHOLE] | None = None
    size: Annotated[int, served("size"), WHOLE] | None = None
    """Longest side of the clip, pixels."""
    motion: Annotated[float, Field(ge=0, le=MAX_MOTION)] = 1.0
    """Scales all motion."""
    background: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] | None = None
    """What transparent parts are laid on, as #rrggbb. Null: a ground that the shapes stand out
    from, white if possible."""
    loop: bool = False
    """Play forwards, then backwards: the end meets the start."""
    region: RegionName | None = None
    """The job's home region."""
    policy: Policy = Policy.RING
    """How far from home the job may go: nowhere, to near regions first, or anywhere."""
    allowed_regions: Annotated[list[RegionName], Field(min_length=1, max_length=64)] | None = None
    """The only regions that may see the picture; must include the home region. Null: all."""
    webhook_url: PublicUrl | None = None
    """Notified when the job ends."""
    webhook_events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=16)] | None = None
    """Events to send to `webhook_url`, which is then required. Null: all."""
    metadata: Labels = Field(default={})
    """Your own labels; lists can be filtered by them."""
    max_queue_seconds: QueueTime = int(MAX_QUEUE_S)
    """The job expires if it has not started by then."""
    deadline_seconds: Annotated[int, Field(ge=1, le=MAX_DEADLINE_S), WHOLE] | None = None
    """The job is stopped if it has not ended by then; same as `Cancel-After`."""
    retention_seconds: Retention | None = None
    """How long picture and clip are kept after the end."""
    priority: Annotated[int, Field(ge=0, le=2), WHOLE] = 1
    """0 paid, 1 interactive, 2 batch: 0 is served first, 2 is refused first.

    A key has a best priority, mostly 1."""

    @property
    def background_rgb(self) -> tuple[int, int, int] | None:
        """`background` as levels of sRGB, 0 to 255."""
        if self.background is None:
            return None
        red, green, blue = bytes.fromhex(self.background[1:])
        return red, green, blue


def _either(one: str, other: str) -> JsonDict:
    return {
        "required": [one],
        "properties": {one: {"type": "string"}, other: {"type": "null"}},
    }


class JsonJobRequest(JobRequest):
    """A job request as JSON. The picture comes as either `image` or `upload_id`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_either("image", "upload_id"), _either("upload_id", "image")]}
    )

    image: Annotated[str, Field(min_length=1, json_schema_extra=PICTURE_URI)] | None = None


class SubmitQuery(Query):
    """The query of a submit."""

    dry_run: bool = False
    """Only estimate; nothing is stored."""


class EstimatedRegion(ResponseModel):
    home: str
    policy: Policy
    allowed: list[str] | None
    predicted: str
    """The nearest region with an idle worker."""


class EstimatedQueue(ResponseModel):
    position: int | None
    """Number of jobs that would be in front; null if there are too many to count."""
    wait_seconds: float | None
    workers: int | None
    """As in `Job`."""


class Estimate(ResponseModel):
    """What a submit would lead to."""

    object: Literal["estimate"]
    model: str
    prompt_understood: PromptUnderstood | None
    """As in `Job`."""
    region: EstimatedRegion
    queue: EstimatedQueue
    eta_seconds: float | None
    cost_units: float


class JobOrEstimate(RootModel[Job | Estimate]):
    """A job; with `dry_run`, the estimate for one."""
