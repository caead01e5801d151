"""Turns every error into application/problem+json (RFC 9457)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil

import structlog
from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from app.api.models.base import Invalid
from app.api.models.problem import PROBLEM, FieldError, Problem
from app.domain.errors import BadRequest, ObjectMissing, Overloaded, Transient
from stillmotion.errors import StillmotionError

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 2

# For what werkzeug raises before or around our own views.
CODES_BY_STATUS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    retryable: bool = False,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=f"urn:uuid:{g.request_id}",
        code=code,
        retryable=retryable,
        errors=list(errors) or None,
    )
    response = Response(body.to_json(), status, headers, mimetype=PROBLEM)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    return response


def install(app: Flask) -> None:
    """Turn every exception of a request into a problem."""
    app.register_error_handler(StillmotionError, _ours)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _ours(error: StillmotionError) -> Response:
    match error:
        case Invalid():
            return problem(error.status, error.code, error.detail, errors=error.errors)
        case BadRequest():
            listed = []
            if error.pointer is not None:
                listed.append(FieldError(error.code, error.pointer, error.detail))
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
            cause = type(error.__cause__).__name__  # its text may contain client data
            log.warning("dependency_unavailable", code=error.code, cause=cause)
            return problem(503, error.code, error.detail, retryable=True)
    return _unexpected(error)


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    # Allow and Content-Range tell the caller what would work.
    kept = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    code = CODES_BY_STATUS.get(status, "bad_request" if status < 500 else "internal_error")
    return problem(status, code, error.description or HTTPStatus(status).phrase, headers=kept)


def _unexpected(error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    return problem(
        500,
        "internal_error",
        "Internal error; `instance` identifies the request in the server's logs.",
    )
