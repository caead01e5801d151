"""Jobs in the terms of OpenAI's clients."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.api.models.base import (
    PICTURE_URI,
    PRINTABLE,
    ModelName,
    PageSize,
    Query,
    RequestBody,
    Text,
)
from app.api.models.job_request import MAX_PROMPT_CHARS
from app.api.models.problem import Problem
from app.public.response_model import ResponseModel


class VideoForm(RequestBody):
    """The text fields of a video request. Null: the model's default."""

    prompt: Annotated[str, Text(max_length=MAX_PROMPT_CHARS), PRINTABLE]
    model: ModelName | None = None
    seconds: Annotated[str, Field(pattern=r"^[0-9]{1,2}$")] | None = None
    """Longer clips get a lower frame rate; the limit is what the model's maximum number of frames
    fills at its lowest rate."""
    size: Annotated[str, Field(pattern=r"^[0-9]{1,4}x[0-9]{1,4}$")] | None = None
    """Width x height of the box that the clip fits into; at least the model's minimum."""


class ImageReference(RequestBody):
    image_url: Annotated[str, Field(min_length=1, json_schema_extra=PICTURE_URI)]


class VideoJson(VideoForm):
    """A video request as JSON, with the picture as a URL."""

    input_reference: ImageReference


class VideoQuery(Query):
    """The query of a list of videos."""

    after: UUID | None = None
    """The `last_id` of the previous page."""
    limit: PageSize = 20
    order: Literal["asc", "desc"] = "desc"


class ContentQuery(Query):
    """Which file of a video to fetch."""

    variant: Literal["video"] = "video"


class VideoError(ResponseModel):
    code: str
    message: str


class Video(ResponseModel):
    """A job in the terms of OpenAI's clients. Times are Unix seconds."""

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


class VideoPage(ResponseModel):
    object: Literal["list"]
    data: list[Video]
    has_more: bool
    first_id: UUID | None
    last_id: UUID | None


class DeletedVideo(ResponseModel):
    id: UUID
    object: Literal["video.deleted"]
    deleted: Literal[True]


class OpenAIError(ResponseModel):
    """What went wrong, where OpenAI's clients look for it."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str


class VideoProblem(Problem):
    """A problem with OpenAI's `error` object next to its fields."""

    error: OpenAIError
