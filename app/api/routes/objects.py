"""Files of the local object store, by signed URL: the signature is the authority."""

import time

from flask import Blueprint, request, send_file
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from app.api.openapi.operation import Answer, describe
from app.api.process.services import services
from app.domain.errors import BadRequest
from app.objects import LocalObjects

bp = Blueprint("objects", __name__, url_prefix="/v1/objects")


class PutQuery(BaseModel):
    """What the signature in an upload's URL is of."""

    expires: int
    size: int
    signature: str


class GetQuery(BaseModel):
    """What the signature in a clip's URL is of."""

    expires: int
    signature: str
    filename: str | None = None
    content_type: str | None = None


SIGNED = ("bad_signature", "url_expired", "storage_unavailable")


def _local() -> LocalObjects:
    objects = services().objects
    if not isinstance(objects, LocalObjects):
        raise BadRequest("not_found", "Objects are not served here.", status=404)
    return objects


@bp.put("/<path:key>")
@describe(
    {200: Answer("It is stored.")},
    scope=None,
    query=PutQuery,
    body_media_type="application/octet-stream",
    codes=(*SIGNED, "upload_size_mismatch", "body_too_large"),
)
def store_object(key: str) -> ResponseReturnValue:
    """Take one upload, by the URL that POST /v1/uploads gave out."""
    objects = _local()
    size = objects.verify_put(key, request.args.to_dict())
    request.max_content_length = size
    data = request.get_data(cache=False)
    if len(data) != size:
        raise BadRequest("upload_size_mismatch", f"The URL is for exactly {size} bytes.")
    objects.put(key, data, "application/octet-stream")
    return "", 200


@bp.get("/<path:key>")
@describe(
    {
        200: Answer("The file.", media_type="*/*", headers=("ETag",)),
        206: Answer("The range.", media_type="*/*", headers=("ETag", "Content-Range")),
        304: Answer("It is as it was.", headers=("ETag",)),
    },
    scope=None,
    query=GetQuery,
    headers=("Range",),
    codes=(*SIGNED, "object_missing", "range_not_satisfiable"),
)
def show_object(key: str) -> ResponseReturnValue:
    """Serve one file, whole or a byte range of it. Only a local store has files to serve."""
    objects = _local()
    query = request.args.to_dict()
    path = objects.verify(key, query)
    # Ignored rather than refused (RFC 9110, 14.2): other units, and more ranges than one.
    asked = request.range
    if asked is not None and (asked.units != "bytes" or len(asked.ranges) != 1):
        del request.environ["HTTP_RANGE"]
    answer = send_file(
        path,
        mimetype=query.get("content_type", "application/octet-stream"),
        download_name=query.get("filename"),
        conditional=True,
    )
    left_s = max(0, int(query["expires"]) - int(time.time()))
    answer.headers["Cache-Control"] = f"private, max-age={left_s}, immutable"
    return answer
