"""The OpenAPI document of this very application."""

from typing import Any

from flask import Blueprint, Response, current_app, request
from flask.typing import ResponseReturnValue
from pydantic import RootModel

from app.api.openapi.operation import Answer, describe


class OpenAPI(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document."""


bp = Blueprint("document", __name__, url_prefix="/v1")


@bp.get("/openapi.json")
@describe(
    {
        200: Answer("The document.", OpenAPI, headers=("ETag",)),
        304: Answer("It is as it was.", headers=("ETag",)),
    },
    scope=None,
)
def show_document() -> ResponseReturnValue:
    """Show this document; `/docs` is the same for people."""
    answer = Response(current_app.extensions["openapi"].text, mimetype="application/json")
    answer.headers["Cache-Control"] = "no-cache"
    answer.add_etag()
    return answer.make_conditional(request)
