"""Webhook endpoints, their secrets and deliveries."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from app.api.models.base import WHOLE, Page, PageSize, PublicUrl, Query, RequestBody
from app.public.response_model import Identified, ResponseModel, utc
from app.store.webhooks.deliveries import Place
from app.store.webhooks.records import DeliveryRecord, EndpointRecord, SecretRecord
from stillmotion.signatures import ROTATION_GRACE_S, TEST_EVENT, WebhookEvent

MAX_GRACE_S = 604_800

State = Literal["pending", "delivered", "failed"]


def _once_each(events: list[WebhookEvent]) -> list[WebhookEvent]:
    return [event for event in WebhookEvent if event in events]


def _known(event: str) -> str:
    if event not in EVENT_NAMES:
        raise ValueError(f"must be one of {', '.join(EVENT_NAMES)}")
    return event


EVENT_NAMES = [*map(str, WebhookEvent), TEST_EVENT]
EventName = Annotated[
    str, AfterValidator(_known), Field(json_schema_extra={"enum": [*EVENT_NAMES]})
]
Events = Annotated[
    list[WebhookEvent], Field(min_length=1, max_length=16), AfterValidator(_once_each)
]


# A delivery's microsecond and its id, so that the list goes on where a removed delivery was.
CURSOR = "^([0-9]{1,16}[.])?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NewWebhook(RequestBody):
    """A URL to notify of all jobs of the key."""

    url: PublicUrl
    events: Events = Field(default=list(WebhookEvent))


class ChangedWebhook(RequestBody):
    """Changes to a webhook. Null: unchanged."""

    events: Events | None = None
    enabled: bool | None = None


class Rotation(RequestBody):
    """How to switch to a new secret."""

    grace_seconds: Annotated[int, Field(ge=0, le=MAX_GRACE_S), WHOLE] = ROTATION_GRACE_S
    """How long the old secret keeps signing too."""


class DeliveryQuery(Query):
    """The query of the list of deliveries."""

    limit: PageSize = 20
    after: Annotated[str, Field(pattern=CURSOR)] | None = None
    """The `next` of the previous page, or the id of a delivery."""
    state: State | None = None
    event: EventName | None = None
    job_id: UUID | None = None
    webhook_id: UUID | None = None


class Webhook(Identified):
    """A webhook endpoint. Times are RFC 3339, UTC."""

    object: Literal["webhook"] = "webhook"
    url: str
    events: list[WebhookEvent]
    enabled: bool
    disabled_reason: Literal["gone", "failing", "owner"] | None
    disabled_at: datetime | None
    created_at: datetime
    previous_secret_until: datetime | None
    """Until then the previous secret signs too."""


class Secret(ResponseModel):
    """A secret in the form that Standard Webhooks libraries take."""

    secret: str
    previous_secret_until: datetime | None
    """Until then the previous secret signs too."""


class WebhookWithSecret(Webhook, Secret):
    """A new webhook with its secret."""


class WebhookPage(Page[Webhook]):
    """All webhooks of a key."""


class Delivery(Identified):
    """One message to one URL. `id` is the `webhook-id` of every try."""

    object: Literal["webhook_delivery"] = "webhook_delivery"
    webhook_id: UUID | None
    """Null: sent to the job's own `webhook_url`."""
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


class DeliveryPage(ResponseModel):
    """Deliveries, newest first."""

    object: Literal["list"]
    data: list[Delivery]
    has_more: bool
    next: str | None
    """Send it as `after` to get the following page; null on the last page."""


def present_webhook(endpoint: EndpointRecord) -> Webhook:
    return Webhook(**_webhook_fields(endpoint))


def present_new_webhook(endpoint: EndpointRecord, secret: str) -> WebhookWithSecret:
    return WebhookWithSecret(**_webhook_fields(endpoint), secret=secret)


def _webhook_fields(endpoint: EndpointRecord) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": endpoint.events,
        "enabled": endpoint.disabled_at is None,
        "disabled_reason": endpoint.disabled_reason,
        "disabled_at": utc(endpoint.disabled_at),
        "created_at": utc(endpoint.created_at),
        "previous_secret_until": utc(endpoint.webhook_previous_until),
    }


def present_secret(secret: str, record: EndpointRecord | SecretRecord) -> Secret:
    return Secret(secret=secret, previous_secret_until=utc(record.webhook_previous_until))


def present_delivery(delivery: DeliveryRecord) -> Delivery:
    state: State = "pending"
    if delivery.delivered_at is not None:
        state = "delivered"
    elif delivery.given_up_at is not None:
        state = "failed"
    return Delivery(
        id=delivery.id,
        webhook_id=delivery.endpoint_id,
        job_id=delivery.job_id,
        event=delivery.event,
        url=delivery.url,
        state=state,
        tries=delivery.tries,
        created_at=utc(delivery.created_at),
        last_tried_at=utc(delivery.last_tried_at),
        next_try_at=utc(delivery.next_at) if state == "pending" else None,
        delivered_at=utc(delivery.delivered_at),
        last_status=delivery.last_status,
        last_error=delivery.last_error,
    )


def present_deliveries(found: Sequence[DeliveryRecord], limit: int) -> DeliveryPage:
    """A page of `limit`; one delivery more announces a following page."""
    shown, has_more = found[:limit], len(found) > limit
    following = None
    if has_more:
        micros = (utc(shown[-1].created_at) - _EPOCH) // timedelta(microseconds=1)
        following = f"{micros}.{shown[-1].id}"
    return DeliveryPage(
        object="list",
        data=[present_delivery(each) for each in shown],
        has_more=has_more,
        next=following,
    )


def place_after(cursor: str) -> Place | UUID:
    """The place that a cursor of the form CURSOR names, or the id of a delivery."""
    micros, _, delivery_id = cursor.rpartition(".")
    if not micros:
        return UUID(delivery_id)
    return Place(_EPOCH + timedelta(microseconds=int(micros)), UUID(delivery_id))
