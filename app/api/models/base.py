"""Field types that requests share, their parsing, and pages of lists."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial
from json import JSONDecodeError
from typing import Annotated, Any, Generic, Literal, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic import ValidationError as PydanticError
from pydantic.fields import FieldInfo

from app.api.models.json_shape import find_bad_shape
from app.api.models.problem import FieldError
from app.domain.errors import BadRequest
from app.public.response_model import Identified, ResponseModel

MAX_FIELD_ERRORS = 20  # reported for one request
MAX_LABELS = 16


class RequestBody(BaseModel):
    """A JSON body. Strict: the string "16" is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class EmptyBody(RequestBody):
    """A body without fields."""


class Query(BaseModel):
    """A query string."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


# Field types.

# Postgres cannot store NUL, and no prompt needs the others. Tabs and line ends are text.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _printable(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters")
    return value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


PRINTABLE = AfterValidator(_printable)
# The same rule in the document, so that clients can check before they send.
PRINTABLE_PATTERN = {"pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"}
# JSON has only one kind of number: 16.0 is the integer 16. The string "16" is still refused.
WHOLE = BeforeValidator(_whole)

# Years that calendars and ids can represent.
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
_YEAR: dict[str, Any] = {"pattern": "^2[0-9]{3}-"}
Moment = Annotated[AwareDatetime, Field(ge=FIRST, lt=LAST, json_schema_extra=_YEAR)]
Day = Annotated[date, Field(ge=FIRST.date(), lt=LAST.date(), json_schema_extra=_YEAR)]

Text = partial(Field, json_schema_extra=PRINTABLE_PATTERN)
LabelName = Annotated[str, Field(min_length=1, max_length=64), PRINTABLE]
LabelValue = Annotated[str, Text(max_length=512), PRINTABLE]
Labels = Annotated[
    dict[LabelName, LabelValue],
    # The pattern of a name is spelled out here: pydantic would emit `patternProperties`, which
    # allows any value under names that do not match.
    Field(
        max_length=MAX_LABELS,
        json_schema_extra={
            "propertyNames": {"minLength": 1, "maxLength": 64, **PRINTABLE_PATTERN},
        },
    ),
]
PublicUrl = Annotated[str, Field(json_schema_extra={"format": "public-https-url"})]
PageSize = Annotated[int, Field(ge=1, le=100)]


def served(what: str) -> FieldInfo:
    """A field whose values depend on the deployment; the document fills them in."""
    field: FieldInfo = Field(json_schema_extra={"x-served": what})
    return field


ModelName = Annotated[str, served("model")]
RegionName = Annotated[str, served("region")]

PICTURE_URI: dict[str, Any] = {
    "format": "picture-uri",
    "description": "A base64 `data:` URI or an https URL.",
}


# Parsing.


class Invalid(BadRequest):
    """A request with wrong fields: lists all of them, under the code of the first."""

    def __init__(self, errors: Sequence[FieldError], *, status: int = 422):
        first = errors[0]
        super().__init__(first.code, first.detail, status=status, pointer=first.pointer)
        self.errors = list(errors)


M = TypeVar("M", bound=BaseModel)


def parse_json(model: type[M], body: bytes) -> M:
    """Parse a body strictly. Raises Invalid: 400 invalid_json if it is not JSON, else 422."""
    try:
        check_shape(body.decode())
    except ValueError as error:
        raise Invalid([FieldError("invalid_json", "", _why_not_json(error))], status=400) from None
    try:
        return model.model_validate_json(body)
    except PydanticError as error:
        not_json = error.errors(include_input=False)[0]["type"] == "json_invalid"
        raise Invalid(_field_errors(error), status=400 if not_json else 422) from None


def parse_strings(model: type[M], values: dict[str, Any]) -> M:
    """Parse the strings of a form or query. Raises Invalid."""
    try:
        return model.model_validate(values, strict=False)
    except PydanticError as error:
        raise Invalid(_field_errors(error)) from None


def check_shape(text: str, *within: str) -> None:
    """Check the shape of JSON before the rest. `within`: path of the field that contains it.

    Raises Invalid; ValueError if it is not JSON.
    """
    if (bad := find_bad_shape(text)) is not None:
        path = (*within, *bad.path)
        raise Invalid([FieldError("invalid_field", pointer(*path), f"{_name(path)}: {bad.fault}.")])


def _why_not_json(error: ValueError) -> str:
    """Where the fault is, without what was sent."""
    if isinstance(error, JSONDecodeError):
        what = f"{error.msg[:1].lower()}{error.msg[1:]}"
        return f"body: not JSON: {what} at line {error.lineno}, column {error.colno}."
    return "body: not JSON in UTF-8."


_CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "missing_field",
    "json_invalid": "invalid_json",
}


def _field_errors(error: PydanticError) -> list[FieldError]:
    """Pydantic's errors in our form, without values: those must not reach a log or a response."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(part) for part in item["loc"] if part != "[key]"]
        code = _CODES.get(item["type"], "invalid_field")
        if item["type"] == "string_too_long" and path == ["prompt"]:
            code = "prompt_too_long"
        text = item["msg"].removeprefix("Value error, ")
        detail = f"{_name(path)}: {text[:1].lower()}{text[1:]}."
        found.append(FieldError(code, pointer(*path), detail))
    # An unknown field explains most, and pydantic lists it last.
    return sorted(found, key=lambda each: each.code != "unknown_field")[:MAX_FIELD_ERRORS]


def _name(path: Sequence[str]) -> str:
    return path[0][:64] if path else "body"


def pointer(*path: str) -> str:
    """A JSON pointer (RFC 6901) to a field; long keys sent by a client are cut."""
    return "".join(f"/{part[:64].replace('~', '~0').replace('/', '~1')}" for part in path)


# Pages.


T = TypeVar("T", bound=Identified)


class Page(ResponseModel, Generic[T]):
    """A page of a list."""

    object: Literal["list"]
    data: list[T]
    has_more: bool
    next: UUID | None
    """Send it as `after` to get the following page; null on the last page."""

    @classmethod
    def cut(cls, items: Sequence[T], limit: int) -> Self:
        """The first `limit` items. Pass one item more to announce a following page."""
        shown, has_more = list(items[:limit]), len(items) > limit
        following = shown[-1].id if has_more else None
        return cls(object="list", data=shown, has_more=has_more, next=following)
