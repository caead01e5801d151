"""What a client may ask for: an order, and the queries of submit, list and usage."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated, Self
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from app.api.models.schemas import PRINTABLE, PRINTABLE_PATTERN, WHOLE, Fault, Invalid, pointer
from app.domain.job.lease import MAX_QUEUE_LIMIT_S, MAX_QUEUE_S
from stillmotion.signatures import WebhookEvent
from stillmotion.states import JobState, Policy

MAX_PROMPT_CHARS = 1000
MAX_DEADLINE_S = 604_800
MAX_MOTION = 2.0
MAX_SEED = 2**63 - 1  # what Postgres' bigint holds
MIN_RETENTION_S, MAX_RETENTION_S = 60, 31_536_000
MAX_LABELS = 16
DEFAULT_USAGE_DAYS, MAX_USAGE_DAYS = 30, 92

# Years that calendars and ids can count with.
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
_YEAR = {"pattern": "^2[0-9]{3}-"}
Moment = Annotated[AwareDatetime, Field(ge=FIRST, lt=LAST, json_schema_extra=_YEAR)]
Day = Annotated[date, Field(ge=FIRST.date(), lt=LAST.date(), json_schema_extra=_YEAR)]

Text = partial(Field, json_schema_extra=PRINTABLE_PATTERN)
LabelName = Annotated[str, Field(min_length=1, max_length=64), PRINTABLE]
LabelValue = Annotated[str, Text(max_length=512), PRINTABLE]
Labels = Annotated[
    dict[LabelName, LabelValue],
    # The pattern of a name here: pydantic would say that other names may have any value.
    Field(
        max_length=MAX_LABELS,
        json_schema_extra={
            "propertyNames": {"minLength": 1, "maxLength": 64, **PRINTABLE_PATTERN},
        },
    ),
]


def served(what: str) -> FieldInfo:
    """A field whose values depend on the deployment, so that its document can name them."""
    return Field(json_schema_extra={"x-served": what})


RegionName = Annotated[str, served("region")]
ModelName = Annotated[str, served("model")]
QueueTime = Annotated[int, Field(ge=10, le=int(MAX_QUEUE_LIMIT_S)), WHOLE]
Retention = Annotated[int, Field(ge=MIN_RETENTION_S, le=MAX_RETENTION_S), WHOLE]
PublicUrl = Annotated[str, Field(json_schema_extra={"format": "public-https-url"})]


class Order(BaseModel):
    """What a client may ask for, beside the picture. Null: the deployment's default."""

    # Strict: a JSON string is not a number. Forms have only strings and are read leniently.
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    upload_id: UUID | None = None
    """A picture sent by /v1/uploads, instead of `image`."""
    prompt: Annotated[str, Text(max_length=MAX_PROMPT_CHARS), PRINTABLE] = ""
    """What should move, and how the camera does."""
    model: ModelName | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] | None = None
    """Null: a random one, which the job shows."""
    frames: Annotated[int, served("frames"), WHOLE] | None = None
    fps: Annotated[int, served("fps"), WHOLE] | None = None
    size: Annotated[int, served("size"), WHOLE] | None = None
    """Longest side of the clip, pixels."""
    motion: Annotated[float, Field(ge=0, le=MAX_MOTION)] = 1.0
    """Multiplies all motion."""
    loop: bool = False
    """There and back: the end meets the start."""
    region: RegionName | None = None
    """The job's home."""
    policy: Policy = Policy.RING
    """How far from its home the job may go: nowhere, to near regions first, anywhere."""
    allowed_regions: Annotated[list[RegionName], Field(min_length=1, max_length=64)] | None = None
    """The only regions that may see the picture; home must be one of them. Null: all."""
    webhook_url: PublicUrl | None = None
    """Told of the job's end."""
    webhook_events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=16)] | None = None
    """Of the job's ends, those to tell `webhook_url`, which must be there. Null: all."""
    metadata: Labels = {}
    """Yours; lists can be filtered by it."""
    max_queue_seconds: QueueTime = int(MAX_QUEUE_S)
    """The job expires if it has not begun by then."""
    deadline_seconds: Annotated[int, Field(ge=1, le=MAX_DEADLINE_S), WHOLE] | None = None
    """The job is stopped if it has not ended by then; `Cancel-After` says the same."""
    retention_seconds: Retention | None = None
    """Picture and clip are removed so long after the end."""
    priority: Annotated[int, Field(ge=0, le=2), WHOLE] = 1
    """0 paid, 1 interactive, 2 batch: 0 is taken first, 2 is refused first."""


PICTURE_URI = {
    "format": "picture-uri",
    "description": "A `data:` URI with base64, or an https URL.",
}


def _either(one: str, other: str) -> JsonDict:
    return {
        "required": [one],
        "properties": {one: {"type": "string"}, other: {"type": "null"}},
    }


class JsonOrder(Order):
    """An order as JSON, with the picture as `image` or by `upload_id`: exactly one of them."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_either("image", "upload_id"), _either("upload_id", "image")]}
    )

    image: Annotated[str, Field(min_length=1, json_schema_extra=PICTURE_URI)] | None = None


class SubmitQuery(BaseModel):
    """The query of a submit."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    dry_run: bool = False
    """Only estimate; nothing is stored."""


class PageQuery(BaseModel):
    """The query of a list. Labels come as `metadata[name]=value`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: UUID | None = None
    """The `next` of the page before."""
    state: JobState | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    metadata: Labels = {}
    """Jobs that have all of these, as `metadata[name]=value`."""


class UsageQuery(BaseModel):
    """The days of a usage report, both included, UTC."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    start: Day | None = None
    """Default: 29 days before the end."""
    end: Day = Field(default_factory=lambda: datetime.now(UTC).date(), validate_default=True)
    """Default: today; at most 91 days after the start."""

    @field_validator("end")
    @classmethod
    def in_order(cls, end: date, info: ValidationInfo) -> date:
        start = info.data.get("start")
        if start is not None and not 0 <= (end - start).days < MAX_USAGE_DAYS:
            raise ValueError(f"must be 0 to {MAX_USAGE_DAYS - 1} days after start")
        return end

    @model_validator(mode="after")
    def with_start(self) -> Self:
        if self.start is None:
            self.start = self.end - timedelta(days=DEFAULT_USAGE_DAYS - 1)
        return self


_LABEL = re.compile(r"metadata\[(.*)\]", re.DOTALL)


def page_values(args: dict[str, str]) -> dict[str, object]:
    """A list's query with its `metadata[name]` gathered."""
    values: dict[str, object] = {}
    labels: dict[str, str] = {}
    for name, value in args.items():
        if match := _LABEL.fullmatch(name):
            labels[match[1]] = value
        else:
            values[name] = value
    return values | ({"metadata": labels} if labels else {})


_CANCEL_AFTER = re.compile(r"([0-9]{1,7})(s|m|h)?")
_UNITS = {None: 1, "s": 1, "m": 60, "h": 3600}


def with_cancel_after(order: Order, header: str | None) -> Order:
    """The order with the deadline of a `Cancel-After: 90s|5m|1h` header.

    Raises Invalid for one that is none, or beside another deadline.
    """
    if header is None:
        return order
    match = _CANCEL_AFTER.fullmatch(header.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    where = pointer("deadline_seconds")
    if not 1 <= seconds <= MAX_DEADLINE_S:
        detail = f"Cancel-After: must be 1s to {MAX_DEADLINE_S}s, as 90s, 5m or 1h."
        raise Invalid([Fault("invalid_cancel_after", where, detail)])
    if order.deadline_seconds not in (None, seconds):
        detail = "deadline_seconds: Cancel-After names another one."
        raise Invalid([Fault("invalid_cancel_after", where, detail)])
    return order.model_copy(update={"deadline_seconds": seconds})


def wait_s(prefer: str | None, most_s: int) -> int | None:
    """Seconds of `Prefer: wait=n` (RFC 7240), at most `most_s`; None: no wait is preferred.

    What is no such preference is ignored, as the RFC asks.
    """
    for item in (prefer or "").split(","):
        name, _, value = item.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            if not digits:
                return most_s
            if digits.isascii() and digits.isdecimal() and len(digits) <= 9:
                return min(int(digits), most_s) or None
    return None
