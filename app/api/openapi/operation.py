"""What a view says of itself for the OpenAPI document, beside its route.

`@describe` only notes it; `app/api/openapi/build.py` makes the document of the notes, and refuses
to build an application that has a route of the API without one. The words are the view's docstring:
its first line is the summary, the rest the description.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from app.pictures.normaliser import REFUSALS

View = TypeVar("View", bound=Callable[..., Any])

Scope = Literal["jobs", "admin", "any"]

PROBLEM = "application/problem+json"

# Codes that come together.
JOB_CODES = ("job_not_found", "job_deleted")
WEBHOOK_CODES = ("webhook_not_found",)
DELIVERY_CODES = ("delivery_not_found",)
SUBMIT_CODES = (
    "rate_limited",
    "too_busy",
    "region_drained",
    "invalid_idempotency_key",
    "idempotency_key_reused",
    "job_deleted",
    "unsupported_media_type",
    "prompt_too_long",
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
class Answer:
    """One good answer. Without a model and media type it has no body.

    `headers` are names of `parts.ANSWER_HEADERS`. `leads_to`: operations that take the id in this
    answer's body.
    """

    text: str
    model: type[BaseModel] | None = None
    media_type: str | None = None  # default: JSON, of a model
    headers: tuple[str, ...] = ()
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """What a route takes and answers, beside what follows from its URL.

    `scope`: that a key needs; "any": a key will do; None: none is needed. `headers` are names of
    `parts.HEADERS`. `picture`: the field of the form that is a file. `may_be_empty`: no body is
    as good as `{}`. `codes`: of `codes.CODES`, beyond those that follow from the other fields.
    """

    answers: Mapping[int, Answer]
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
    problem: type[BaseModel] | None = None  # default: errors.Problem


def describe(answers: Mapping[int, Answer], **rest: Any) -> Callable[[View], View]:
    """Note what a view takes and answers: the fields of Operation."""
    operation = Operation(answers, **rest)

    def note(view: View) -> View:
        view.operation = operation  # type: ignore[attr-defined]
        return view

    return note
