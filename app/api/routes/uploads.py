"""Pictures sent ahead of their jobs, straight to object storage by a signed URL."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID, uuid4

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field

from app.api.models.schemas import WHOLE, Fault, Invalid, Shown, parse_json
from app.api.openapi.operation import Answer, describe
from app.api.process.services import services
from app.api.request import auth

URL_S = 3600  # to send the picture
KEPT_S = 86_400  # to submit it, any number of times; the sweeper removes it then

bp = Blueprint("uploads", __name__, url_prefix="/v1/uploads")
bp.before_request(auth.require_jobs)


class NewUpload(BaseModel):
    """What a client says of the picture: its exact size, which the URL is signed for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    size_bytes: Annotated[int, Field(ge=1, json_schema_extra={"x-served": "upload"}), WHOLE]


class Upload(Shown):
    """Where to PUT the picture. `id` is a job's `upload_id`."""

    id: UUID
    object: Literal["upload"] = "upload"
    method: Literal["PUT"] = "PUT"
    url: str
    size_bytes: int
    url_expires_at: datetime
    expires_at: datetime


def upload_key(owner_id: UUID, upload_id: UUID) -> str:
    """The object's key holds its owner: an id of another owner's leads nowhere."""
    return f"uploads/{owner_id}/{upload_id}"


@bp.post("")
@describe(
    {201: Answer("Where to PUT the picture.", Upload)},
    body=NewUpload,
    codes=("upload_too_large",),
    examples={"photo": {"size_bytes": 60_412}},
)
def create_upload() -> ResponseReturnValue:
    """Give out a URL for one picture."""
    parts = services()
    asked = parse_json(NewUpload, request.get_data(cache=False))
    most = parts.settings.max_upload_mb * 1_000_000
    if asked.size_bytes > most:
        detail = f"size_bytes: at most {most}."
        raise Invalid([Fault("upload_too_large", "/size_bytes", detail)], status=413)
    upload_id = uuid4()
    now = datetime.now(UTC).replace(microsecond=0)
    url = parts.objects.signed_put_url(
        upload_key(g.api_key.id, upload_id), expires_s=URL_S, size=asked.size_bytes
    )
    upload = Upload(
        id=upload_id,
        url=url,
        size_bytes=asked.size_bytes,
        url_expires_at=now + timedelta(seconds=URL_S),
        expires_at=now + timedelta(seconds=KEPT_S),
    )
    return upload.model_dump(mode="json"), 201
