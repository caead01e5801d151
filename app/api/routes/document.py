"""The OpenAPI document of this application."""

from flask import Blueprint, Response, current_app, request

from app.api.models.catalog import OpenAPI
from app.api.openapi.operation import ResponseSpec, Result, describe

bp = Blueprint("document", __name__, url_prefix="/v1")


@bp.get("/openapi.json")
@describe(
    {
        200: ResponseSpec("The document.", OpenAPI, headers=("ETag",)),
        304: ResponseSpec("Not modified.", headers=("ETag",)),
    },
    scope=None,
)
def show_document() -> Result:
    """Show this document; `/docs` is the same for humans."""
    response = Response(current_app.extensions["openapi"].text, mimetype="application/json")
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    return response.make_conditional(request)
