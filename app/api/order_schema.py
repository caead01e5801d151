"""What a client may ask for: an order, and the queries of submit, list and usage."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from app.api.schemas import PRINTABLE, Fault, Invalid, pointer
from app.domain.job import JobState, Policy
from app.domain.lease import MAX_QUEUE_LIMIT_S, MAX_QUEUE_S
from app.domain.webhooks import WebhookEvent

MAX_PROMPT_CHARS = 1000
MAX_DEADLINE_S = 604_800
MAX_MOTION = 2.0
MAX_SEED = 2**63 - 1  # what Postgres' bigint holds
MIN_RETENTION_S, MAX_RETENTION_S = 60, 31_536_000
MAX_LABELS = 16
MAX_USAGE_DAYS = 92

# Years that calendars and ids can count with.
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
Moment = Annotated[AwareDatetime, Field(ge=FIRST, lt=LAST)]
Day = Annotated[date, Field(ge=FIRST.date(), lt=LAST.date())]

LabelName = Annotated[str, Field(min_length=1, max_length=64), PRINTABLE]
LabelValue = Annotated[str, Field(max_length=512), PRINTABLE]
Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=MAX_LABELS)]


class Order(BaseModel):
    """What a client may ask for, beside the picture. None: the deployment's default."""

    # Strict: a JSON string is not a number. Forms have only strings and are read leniently.
    model_config = ConfigDict(extra="forbid", strict=True)

    upload_id: Annotated[UUID | None, Field(description="A picture sent by /v1/uploads.")] = None
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARS), PRINTABLE] = ""
    model: str | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    frames: int | None = None
    fps: int | None = None
    size: Annotated[int | None, Field(description="Longest side of the clip, pixels.")] = None
    motion: Annotated[float, Field(ge=0, le=MAX_MOTION, description="Multiplies all motion.")] = 1.0
    loop: Annotated[bool, Field(description="There and back: the end meets the start.")] = False
    region: str | None = None
    policy: Policy = Policy.RING
    allowed_regions: Annotated[list[str], Field(min_length=1, max_length=64)] | None = None
    webhook_url: str | None = None
    webhook_events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=16)] | None = None
    metadata: Labels = {}
    max_queue_seconds: Annotated[int, Field(ge=10, le=int(MAX_QUEUE_LIMIT_S))] = int(MAX_QUEUE_S)
    deadline_seconds: Annotated[int, Field(ge=1, le=MAX_DEADLINE_S)] | None = None
    retention_seconds: Annotated[int, Field(ge=MIN_RETENTION_S, le=MAX_RETENTION_S)] | None = None
    priority: Annotated[
        int, Field(ge=0, le=2, description="0 paid, 1 interactive, 2 batch: 0 first, 2 shed first.")
    ] = 1


class JsonOrder(Order):
    """An order as JSON: the picture is a `data:` URI with base64, an https URL, or an upload."""

    image: Annotated[str, Field(min_length=1)] | None = None


class SubmitQuery(BaseModel):
    """The query of a submit."""

    model_config = ConfigDict(extra="forbid")

    dry_run: Annotated[bool, Field(description="Only estimate; nothing is stored.")] = False


class PageQuery(BaseModel):
    """The query of a list. Labels come as `metadata[name]=value`."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: UUID | None = None
    state: JobState | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    metadata: Labels = {}


class UsageQuery(BaseModel):
    """The days of a usage report, both included, UTC."""

    model_config = ConfigDict(extra="forbid")

    start: Day
    end: Day

    @model_validator(mode="after")
    def in_order(self) -> Self:
        if not 0 <= (self.end - self.start).days < MAX_USAGE_DAYS:
            raise ValueError(f"end must be 0 to {MAX_USAGE_DAYS - 1} days after start")
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
