"""Every error as application/problem+json (RFC 9457), made in one place."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from math import ceil
from typing import Annotated, Literal

import structlog
from flask import Flask, Response, g
from pydantic import ConfigDict, Field
from werkzeug.exceptions import HTTPException

from app.api.models.schemas import Fault, Invalid, Shown, may_lack
from app.api.openapi.operation import PROBLEM
from app.domain.errors import BadRequest, ObjectMissing, Overloaded, Transient
from stillmotion.errors import StillmotionError

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 2

# What werkzeug raises before or around our own views.
CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}


Code = Annotated[str, Field(json_schema_extra={"x-served": "code"})]


class ShownFault(Shown):
    """One thing that is wrong with a request."""

    pointer: str
    """A JSON pointer (RFC 6901) to the field."""
    code: Code
    detail: str


class Problem(Shown):
    """An error (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra=may_lack("errors"))

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    """One sentence for people."""
    instance: str
    """Names the request in our logs."""
    code: Code
    retryable: bool
    """Whether the same request may succeed later."""
    errors: list[ShownFault] | None = None
    """What is wrong with the request; only where that can be named."""


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    retryable: bool = False,
    errors: Iterable[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One answer."""
    listed = [ShownFault(pointer=f.pointer, code=f.code, detail=f.detail) for f in errors]
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=f"urn:uuid:{g.request_id}",
        code=code,
        retryable=retryable,
        errors=listed or None,
    )
    text = body.model_dump_json(exclude_none=True)
    answer = Response(text, status, mimetype=PROBLEM)
    answer.headers.update(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    return answer


def install(app: Flask) -> None:
    """Turn everything that a request may raise into a problem."""
    app.register_error_handler(StillmotionError, _ours)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _ours(error: StillmotionError) -> Response:
    match error:
        case Invalid():
            return problem(error.status, error.code, error.detail, errors=error.faults)
        case BadRequest():
            listed = [] if error.pointer is None else [_fault(error, error.pointer)]
            headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
            if error.retry_after_s is not None:
                headers["Retry-After"] = str(max(1, ceil(error.retry_after_s)))
            return problem(
                error.status,
                error.code,
                error.detail,
                retryable=error.retryable,
                errors=listed,
                headers=headers,
            )
        case ObjectMissing():
            return problem(404, error.code, error.detail)
        case Overloaded():
            pause = {"Retry-After": str(ceil(error.retry_after_s))}
            return problem(error.status, error.code, error.detail, retryable=True, headers=pause)
        case Transient():
            cause = type(error.__cause__).__name__  # its text may hold what the client sent
            log.warning("unavailable", code=error.code, cause=cause)
            return problem(503, error.code, error.detail, retryable=True)
    return _unexpected(error)


def _fault(error: BadRequest, pointer: str) -> Fault:
    return Fault(error.code, pointer, error.detail)


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    # Allow and Content-Range say what the caller may do instead.
    kept = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    code = CODES.get(status, "bad_request" if status < 500 else "internal_error")
    return problem(status, code, error.description or HTTPStatus(status).phrase, headers=kept)


def _unexpected(error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return problem(
        500, "internal_error", "Something broke on our side; `instance` names it in our logs."
    )
