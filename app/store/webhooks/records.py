"""Webhooks as their rows say: fields have the names and the order of the columns."""

from dataclasses import fields
from datetime import datetime
from uuid import UUID

from app.store.record import record


@record
class EndpointRecord:
    """One row of `webhook_endpoints`."""

    id: UUID
    owner_id: UUID
    url: str
    events: list[str]
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    webhook_secret_version: int
    webhook_previous_until: datetime | None


ENDPOINT_COLUMNS = ", ".join(field.name for field in fields(EndpointRecord))


@record
class SecretRecord:
    """The secret of an endpoint or of an API key: which version signs, and until when the last."""

    id: UUID
    webhook_secret_version: int
    webhook_previous_until: datetime | None


@record
class DeliveryRecord:
    """One row of `webhook_deliveries`."""

    id: UUID
    job_id: UUID | None
    owner_id: UUID
    endpoint_id: UUID | None
    event: str
    url: str
    created_at: datetime
    tries: int
    tries_before: int
    next_at: datetime
    leased_until: datetime | None
    last_tried_at: datetime | None
    delivered_at: datetime | None
    given_up_at: datetime | None
    last_status: int | None
    last_error: str | None


def delivery_columns(table: str = "webhook_deliveries") -> str:
    """The columns of a DeliveryRecord, in its order, as SQL."""
    return ", ".join(f"{table}.{field.name}" for field in fields(DeliveryRecord))


@record
class BegunTry(DeliveryRecord):
    """A delivery whose next try has just begun, with what is needed to sign it."""

    secret_version: int
    previous_signs: bool  # the secret before it is still good


@record
class OwnDelivery(DeliveryRecord):
    """A delivery as its owner asks for it."""

    disabled: bool  # its endpoint takes nothing
