"""Records of webhooks. Fields have the names and the order of the columns."""

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


# Once the moment has passed, by the database's clock, there is no previous secret any more.
PREVIOUS_UNTIL = (
    "CASE WHEN webhook_previous_until > now() THEN webhook_previous_until END"
    " AS webhook_previous_until"
)
_ENDPOINT_SQL = {"webhook_previous_until": PREVIOUS_UNTIL}
ENDPOINT_COLUMNS = ", ".join(
    _ENDPOINT_SQL.get(field.name, field.name) for field in fields(EndpointRecord)
)


@record
class SecretRecord:
    """The webhook secret of an endpoint or an API key, and how long the last version signs."""

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
    """The columns of a DeliveryRecord as SQL, in order."""
    return ", ".join(f"{table}.{field.name}" for field in fields(DeliveryRecord))


@record
class BegunTry(DeliveryRecord):
    """A delivery whose next try has just begun, with the secret versions that sign it."""

    last_tried_at: datetime  # now, by the database's clock
    secret_version: int
    previous_signs: bool  # the previous secret still signs, too
    key_revoked: bool
    # Of the job whose end is announced; None for a test.
    traceparent: str | None
    job_region: str | None
    fence: int | None


@record
class OwnDelivery(DeliveryRecord):
    """A delivery as its owner sees it."""

    disabled: bool  # its endpoint is disabled
