"""Pictures sent ahead of their jobs."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.api.models.base import WHOLE, RequestBody
from app.public.response_model import ResponseModel


class NewUpload(RequestBody):
    """The exact size of the picture; the URL is signed for it."""

    size_bytes: Annotated[int, Field(ge=1, json_schema_extra={"x-served": "upload"}), WHOLE]


class Upload(ResponseModel):
    """Where to PUT the picture. Use `id` as a job's `upload_id`."""

    id: UUID
    object: Literal["upload"] = "upload"
    method: Literal["PUT"] = "PUT"
    url: str
    size_bytes: int
    url_expires_at: datetime
    expires_at: datetime
