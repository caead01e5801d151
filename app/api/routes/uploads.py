"""Pictures sent ahead of their jobs, directly to object storage by a signed URL."""

from datetime import timedelta
from uuid import uuid4

from flask import Blueprint, g, request

from app.api.models.base import Invalid, parse_json
from app.api.models.problem import FieldError
from app.api.models.upload import NewUpload, Upload
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.openapi.shared import RATE_HEADERS
from app.api.process.services import get_services
from app.api.request import auth, rate_limit
from app.api.request.picture_source import upload_key

URL_S = 3600  # time to send the picture
KEPT_S = 86_400  # time to use it, in any number of jobs; then the sweeper removes it

bp = Blueprint("uploads", __name__, url_prefix="/v1/uploads")
bp.before_request(auth.require_jobs)


@bp.post("")
@describe(
    {201: ResponseSpec("Where to PUT the picture.", Upload, headers=RATE_HEADERS)},
    body=NewUpload,
    codes=("upload_too_large", "upload_limit_reached"),
    examples={"photo": {"size_bytes": 60_412}},
)
def create_upload() -> Result:
    """Get a URL to upload one picture to."""
    services = get_services()
    asked = parse_json(NewUpload, request.get_data(cache=False))
    limits_mb = services.settings.max_upload_mb, rate_limit.upload_limit_mb(services)
    most = 1_000_000 * min(filter(None, limits_mb))
    if asked.size_bytes > most:
        detail = f"size_bytes: at most {most}."
        raise Invalid([FieldError("upload_too_large", "/size_bytes", detail)], status=413)
    rate_limit.spend_upload(services, asked.size_bytes)
    upload_id = uuid4()
    now = services.clock.now().replace(microsecond=0)
    url = services.objects.signed_put_url(
        upload_key(g.api_key.id, upload_id), expires_s=URL_S, size=asked.size_bytes
    )
    upload = Upload(
        id=upload_id,
        url=url,
        size_bytes=asked.size_bytes,
        url_expires_at=now + timedelta(seconds=URL_S),
        expires_at=now + timedelta(seconds=KEPT_S),
    )
    return upload, 201
