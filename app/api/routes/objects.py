"""Files of the local object store, by signed URL: the signature is the only authorisation."""

from flask import Blueprint, request, send_file

from app.api.models.query_string import single_values
from app.api.models.stored_object import GetQuery, PutQuery
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import get_services
from app.domain.errors import BadRequest
from app.objects import LocalObjects

bp = Blueprint("objects", __name__, url_prefix="/v1/objects")


SIGNED = ("bad_signature", "url_expired", "storage_unavailable")


def _local() -> LocalObjects:
    objects = get_services().objects
    if not isinstance(objects, LocalObjects):
        raise BadRequest("not_found", "This deployment does not serve objects itself.", status=404)
    return objects


@bp.put("/<path:key>")
@describe(
    {200: ResponseSpec("The file is stored.")},
    scope=None,
    query=PutQuery,
    body_media_type="application/octet-stream",
    codes=(*SIGNED, "upload_size_mismatch", "body_too_large"),
)
def store_object(key: str) -> Result:
    """Store one upload under the URL from POST /v1/uploads."""
    objects = _local()
    size = objects.verify_put(key, single_values(request.query_string))
    request.max_content_length = size
    data = request.get_data(cache=False)
    if len(data) != size:
        raise BadRequest("upload_size_mismatch", f"The URL is signed for exactly {size} bytes.")
    objects.put(key, data, "application/octet-stream")
    return None, 200


@bp.get("/<path:key>")
@describe(
    {
        200: ResponseSpec("The file.", media_type="*/*", headers=("ETag",)),
        206: ResponseSpec("The range.", media_type="*/*", headers=("ETag", "Content-Range")),
        304: ResponseSpec("Not modified.", headers=("ETag",)),
    },
    scope=None,
    query=GetQuery,
    headers=("Range",),
    codes=(*SIGNED, "object_missing", "range_not_satisfiable"),
)
def show_object(key: str) -> Result:
    """Serve one file or a byte range of it; only deployments with a local store do."""
    objects = _local()
    query = single_values(request.query_string)
    path = objects.verify(key, query)
    # Other units and multiple ranges are ignored rather than refused (RFC 9110, 14.2).
    asked = request.range
    if asked is not None and (asked.units != "bytes" or len(asked.ranges) != 1):
        del request.environ["HTTP_RANGE"]
    response = send_file(
        path,
        mimetype=query.get("content_type", "application/octet-stream"),
        download_name=query.get("filename"),
        conditional=True,
    )
    left_s = max(0, int(query["expires"]) - int(get_services().clock()))
    response.headers["Cache-Control"] = f"private, max-age={left_s}, immutable"
    return response
