"""`@describe`: what a view takes and returns, declared once for the document and the wire.

`app/api/openapi/build.py` builds the document from these declarations and refuses an application
with an undeclared route. The texts come from the view's docstring: its first clause is the summary,
all of it the description.

A view returns a model; here it becomes a response, and only if the view declared that model for
that status. So no response can differ from the document.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, ParamSpec, get_args

from flask import Response, request
from pydantic import BaseModel
from werkzeug.wrappers import Response as AnyResponse

from app.api.models.base import Query
from app.api.models.query_string import parse_query
from app.pictures.refusals import REFUSALS
from app.public.response_model import ResponseModel

P = ParamSpec("P")
Scope = Literal["jobs", "admin", "any"]
Headers = dict[str, str]
# What a view returns: a model (200), or with a status, or with headers too; None: no body.
Result = (
    AnyResponse
    | ResponseModel
    | tuple[ResponseModel | None, int]
    | tuple[ResponseModel | None, int, Headers]
)

# Codes that occur together.
JOB_CODES = ("job_not_found", "job_deleted")
WEBHOOK_CODES = ("webhook_not_found",)
DELIVERY_CODES = ("delivery_not_found",)
SUBMIT_CODES = (
    "rate_limited",
    "too_busy",
    "too_many_submits",
    "region_drained",
    "invalid_idempotency_key",
    "idempotency_key_reused",
    "job_deleted",
    "unsupported_media_type",
    "prompt_too_long",
    "priority_not_allowed",
    "unknown_region",
    "unknown_model",
    "content_rejected",
    *REFUSALS,
    "url_not_allowed",
    "url_unreachable",
    "url_timeout",
    "url_redirects",
    "url_bad_status",
    "url_too_large",
    "pictures_busy",
    "pictures_unavailable",
    "safety_unavailable",
    "storage_unavailable",
)


@dataclass(frozen=True)
class ResponseSpec:
    """One successful response. Without a model and media type it has no body.

    `headers`: names from `shared.RESPONSE_HEADERS`. `leads_to`: operations that take the id in
    this response's body.
    """

    text: str
    model: type[BaseModel] | None = None
    media_type: str | None = None  # default: JSON if there is a model
    headers: tuple[str, ...] = ()
    leads_to: tuple[str, ...] = ()

    def allows(self, model: ResponseModel | None) -> bool:
        if model is None or self.model is None:
            return model is None and self.model is None
        if (root := self.model.model_fields.get("root")) is not None:  # one of several
            return isinstance(model, get_args(root.annotation))
        return isinstance(model, self.model)


@dataclass(frozen=True)
class Operation:
    """What a route takes and returns, beyond what follows from its URL; decorates its view.

    `scope`: what the key needs; "any": every key will do; None: no key. `headers`: names from
    `shared.REQUEST_HEADERS`. `picture`: the form field that holds a file. `may_be_empty`: an empty
    body means `{}`. `codes`: from `codes.CODES`, beyond those that follow from the other fields.
    """

    responses: Mapping[int, ResponseSpec]
    scope: Scope | None = "jobs"
    query: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    body_media_type: str = "application/json"
    may_be_empty: bool = False
    form: type[BaseModel] | None = None
    picture: str | None = None
    codes: tuple[str, ...] = ()
    examples: Mapping[str, Any] | None = None  # of the JSON body, by name
    problem: type[BaseModel] | None = None  # default: Problem

    def __call__(self, view: Callable[P, Result]) -> Callable[P, AnyResponse]:
        @wraps(view)
        def respond(*args: P.args, **kwargs: P.kwargs) -> AnyResponse:
            if self.takes_no_query:
                parse_query(Query, request.query_string)
            return self._response(view(*args, **kwargs))

        respond.operation = self  # type: ignore[attr-defined]  # build.py reads it
        return respond

    @property
    def takes_no_query(self) -> bool:
        """Whether a parameter is refused: it would do nothing. Probes and files may have any."""
        return self.query is None and self.scope is not None

    def _response(self, result: Result) -> AnyResponse:
        """Serialise what a view returned. Raises TypeError for an undeclared status or model."""
        if isinstance(result, AnyResponse):
            return result
        model: ResponseModel | None
        status, headers = 200, Headers()
        if isinstance(result, ResponseModel):
            model = result
        elif len(result) == 2:
            model, status = result
        else:
            model, status, headers = result
        spec = self.responses.get(status)
        if spec is None or not spec.allows(model):
            raise TypeError(f"{status} with {type(model).__name__} is not declared by @describe")
        if model is None:
            return Response(status=status, headers=headers)
        return Response(model.to_json(), status, headers, mimetype="application/json")


describe = Operation
