"""What the API takes and shows about webhooks."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Row

from app.api.models.order_schema import PublicUrl
from app.api.models.schemas import WHOLE, Job, Shown, may_lack
from stillmotion.signatures import ROTATION_GRACE_S, TEST_EVENT, WebhookEvent

MAX_GRACE_S = 604_800

State = Literal["pending", "delivered", "failed"]


def _once_each(events: list[WebhookEvent]) -> list[WebhookEvent]:
    return [event for event in WebhookEvent if event in events]


def _known(event: str) -> str:
    if event not in NAMES:
        raise ValueError(f"must be one of {', '.join(NAMES)}")
    return event


NAMES = [*map(str, WebhookEvent), TEST_EVENT]
EventName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": NAMES})]
Events = Annotated[
    list[WebhookEvent], Field(min_length=1, max_length=16), AfterValidator(_once_each)
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class NewWebhook(Body):
    """An address that is to hear of all jobs of the key."""

    url: PublicUrl
    events: Events = list(WebhookEvent)


class ChangedWebhook(Body):
    """Null: as it is."""

    events: Events | None = None
    enabled: bool | None = None


class Rotation(Body):
    """How to go over to a new secret."""

    grace_seconds: Annotated[int, Field(ge=0, le=MAX_GRACE_S), WHOLE] = ROTATION_GRACE_S
    """How long the old secret signs as well."""


class Nothing(Body):
    """A request that takes no fields."""


class DeliveryQuery(BaseModel):
    """The query of the list of deliveries."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: UUID | None = None
    """The `next` of the page before."""
    state: State | None = None
    event: EventName | None = None
    job_id: UUID | None = None
    webhook_id: UUID | None = None


class Webhook(Shown):
    """An endpoint. Times are RFC 3339, UTC."""

    id: UUID
    object: Literal["webhook"] = "webhook"
    url: str
    events: list[WebhookEvent]
    enabled: bool
    disabled_reason: Literal["gone", "failing", "owner"] | None
    disabled_at: datetime | None
    created_at: datetime
    previous_secret_until: datetime | None
    """Until then the secret before signs as well."""


class Delivery(Shown):
    """One message to one address. `id` is the `webhook-id` of every try."""

    id: UUID
    object: Literal["webhook_delivery"] = "webhook_delivery"
    webhook_id: UUID | None
    """Null: to the address that the job names."""
    job_id: UUID | None
    """Null: a test."""
    event: EventName
    url: str
    state: State
    tries: int
    created_at: datetime
    last_tried_at: datetime | None
    next_try_at: datetime | None
    """Only while pending."""
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None


class Secret(Shown):
    """A secret as libraries of Standard Webhooks take it."""

    secret: str
    previous_secret_until: datetime | None
    """Until then the secret before signs as well."""


class AnnouncedJob(Job):
    """A job without what would make its message too long: old attempts first, then metadata."""

    model_config = ConfigDict(json_schema_extra=may_lack("attempts", "metadata"))


class JobNews(Shown):
    job: AnnouncedJob


class JobMessage(Shown):
    """The end of a job, as it is sent to a webhook."""

    type: WebhookEvent
    timestamp: datetime
    """When the job ended."""
    data: JobNews


class TestNews(Shown):
    webhook_id: UUID


class TestMessage(Shown):
    """What `POST /v1/webhooks/{id}/test` sends."""

    type: Literal["webhook.test"]
    timestamp: datetime
    data: TestNews


def dump_webhook(row: Row[Any]) -> dict[str, Any]:
    return Webhook(
        id=row.id,
        url=row.url,
        events=row.events,
        enabled=row.disabled_at is None,
        disabled_reason=row.disabled_reason,
        disabled_at=_utc(row.disabled_at),
        created_at=_utc(row.created_at),
        previous_secret_until=_ahead(row.webhook_previous_until),
    ).model_dump(mode="json")


def dump_delivery(row: Row[Any]) -> dict[str, Any]:
    state: State = "pending"
    if row.delivered_at is not None:
        state = "delivered"
    elif row.given_up_at is not None:
        state = "failed"
    return Delivery(
        id=row.id,
        webhook_id=row.endpoint_id,
        job_id=row.job_id,
        event=row.event,
        url=row.url,
        state=state,
        tries=row.tries,
        created_at=_utc(row.created_at),
        last_tried_at=_utc(row.last_tried_at),
        next_try_at=_utc(row.next_at) if state == "pending" else None,
        delivered_at=_utc(row.delivered_at),
        last_status=row.last_status,
        last_error=row.last_error,
    ).model_dump(mode="json")


def dump_secret(secret: str, row: Row[Any]) -> dict[str, Any]:
    return Secret(
        secret=secret, previous_secret_until=_ahead(row.webhook_previous_until)
    ).model_dump(mode="json")


def dump_list(items: Sequence[dict[str, Any]], *, more: bool = False) -> dict[str, Any]:
    """`next` is the `after` of the following page."""
    following = items[-1]["id"] if more else None
    return {"object": "list", "data": list(items), "has_more": more, "next": following}


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _ahead(moment: datetime | None) -> datetime | None:
    """A moment that has not passed."""
    return None if moment is None or moment <= datetime.now(UTC) else _utc(moment)
