"""Webhook endpoints, and the rotation of secrets: of endpoints, and of addresses that jobs name."""

from collections.abc import Sequence
from enum import StrEnum
from typing import cast
from uuid import UUID

from sqlalchemy import Connection, Table, bindparam, delete, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from app.store.models import ApiKeyRow
from app.store.webhooks.models import OPEN_SQL as OPEN
from app.store.webhooks.models import DeliveryRow, WebhookEndpointRow
from app.store.webhooks.records import (
    ENDPOINT_COLUMNS,
    PREVIOUS_UNTIL,
    DeliveryRecord,
    EndpointRecord,
    SecretRecord,
    delivery_columns,
)
from stillmotion.signatures import TEST_EVENT

endpoints = cast(Table, WebhookEndpointRow.__table__)
api_keys = cast(Table, ApiKeyRow.__table__)
deliveries = cast(Table, DeliveryRow.__table__)

MAX_ENDPOINTS = 16  # of one owner; every job that ends writes a row for each
MAX_OPEN_TESTS = 5  # of one endpoint
KEPT_TESTS = 20  # ended tests of one endpoint; other deliveries are deleted with their jobs


class Disabled(StrEnum):
    """Why an endpoint is disabled."""

    GONE = "gone"  # it answered 410
    FAILING = "failing"  # a whole schedule of tries failed, and no delivery to it succeeded
    OWNER = "owner"  # its owner disabled it


def add(tx: Connection, owner_id: UUID, url: str, events: Sequence[str]) -> EndpointRecord | None:
    """Add an endpoint. None: the owner already has one for this URL."""
    row = tx.execute(
        text(
            "INSERT INTO webhook_endpoints (owner_id, url, events) VALUES (:owner, :url, :events)"
            f" ON CONFLICT (owner_id, url) DO NOTHING RETURNING {ENDPOINT_COLUMNS}"
        ).bindparams(bindparam("events", type_=ARRAY(Text))),
        {"owner": owner_id, "url": url, "events": list(events)},
    ).one_or_none()
    return None if row is None else EndpointRecord(*row)


def count_locked(tx: Connection, owner_id: UUID) -> int:
    """How many endpoints the owner has. Nobody can add one until this transaction ends."""
    # FOR UPDATE would wait for every submit, because its foreign key locks the row too.
    tx.execute(
        text("SELECT FROM api_keys WHERE id = :owner FOR NO KEY UPDATE"), {"owner": owner_id}
    )
    return len(of_owner(tx, owner_id))


def of_owner(tx: Connection, owner_id: UUID) -> Sequence[EndpointRecord]:
    """The owner's endpoints, oldest first."""
    rows = tx.execute(
        text(
            f"SELECT {ENDPOINT_COLUMNS} FROM webhook_endpoints"
            " WHERE owner_id = :owner ORDER BY created_at, id"
        ),
        {"owner": owner_id},
    )
    return [EndpointRecord(*row) for row in rows]


def get(tx: Connection, endpoint_id: UUID, *, owner_id: UUID) -> EndpointRecord | None:
    row = tx.execute(
        text(
            f"SELECT {ENDPOINT_COLUMNS} FROM webhook_endpoints WHERE id = :id AND owner_id = :owner"
        ),
        {"id": endpoint_id, "owner": owner_id},
    ).one_or_none()
    return None if row is None else EndpointRecord(*row)


def remove(tx: Connection, endpoint_id: UUID, *, owner_id: UUID) -> bool:
    """Remove an endpoint with all its deliveries. False: no such endpoint."""
    gone = tx.execute(
        delete(endpoints).where(endpoints.c.id == endpoint_id, endpoints.c.owner_id == owner_id)
    )
    return gone.rowcount == 1


def choose_events(tx: Connection, endpoint_id: UUID, events: Sequence[str]) -> None:
    """Change which events are announced from now on. Deliveries already owed stay owed."""
    tx.execute(
        text("UPDATE webhook_endpoints SET events = :events WHERE id = :id").bindparams(
            bindparam("events", type_=ARRAY(Text))
        ),
        {"id": endpoint_id, "events": list(events)},
    )


def enable(tx: Connection, endpoint_id: UUID) -> None:
    """Announce events to it again. Events while it was disabled are not made up for."""
    tx.execute(
        text(
            "UPDATE webhook_endpoints SET disabled_at = NULL, disabled_reason = NULL WHERE id = :id"
        ),
        {"id": endpoint_id},
    )


def lock(tx: Connection, endpoint_id: UUID) -> None:
    """Lock an endpoint before writing one of its deliveries and then the endpoint itself.

    Two workers that both receive 410 would otherwise wait for each other's delivery.
    """
    tx.execute(
        text("SELECT FROM webhook_endpoints WHERE id = :id FOR NO KEY UPDATE"),
        {"id": endpoint_id},
    )


def disable(tx: Connection, endpoint_id: UUID, reason: Disabled) -> None:
    """Send nothing more and give up open deliveries. A try under way will not be recorded."""
    tx.execute(
        text(
            "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = :reason"
            " WHERE id = :id AND disabled_at IS NULL"
        ),
        {"id": endpoint_id, "reason": reason.value},
    )
    tx.execute(
        text(
            "UPDATE webhook_deliveries SET"
            "  given_up_at = now(), leased_until = NULL, last_error = 'webhook_disabled'"
            f" WHERE endpoint_id = :id AND {OPEN}"
        ),
        {"id": endpoint_id},
    )


def disable_if_dead(tx: Connection, given_up: DeliveryRecord) -> None:
    """Disable the endpoint of a given-up delivery if none has succeeded since it was created."""
    if given_up.endpoint_id is None:
        return  # it went to an address that the job names
    took = tx.execute(
        text(
            "SELECT EXISTS (SELECT FROM webhook_deliveries"
            " WHERE endpoint_id = :id AND delivered_at >= :since)"
        ),
        {"id": given_up.endpoint_id, "since": given_up.created_at},
    ).scalar_one()
    if not took:
        disable(tx, given_up.endpoint_id, Disabled.FAILING)


def secret_of_owner(tx: Connection, owner_id: UUID) -> SecretRecord:
    """The secret that signs webhooks to addresses that the owner's jobs name."""
    row = tx.execute(
        text(f"SELECT id, webhook_secret_version, {PREVIOUS_UNTIL} FROM api_keys WHERE id = :id"),
        {"id": owner_id},
    )
    return SecretRecord(*row.one())


def rotate(
    tx: Connection, secret: EndpointRecord | SecretRecord, table: Table, grace_s: float
) -> SecretRecord | None:
    """Rotate the secret of a row of `endpoints` or `api_keys`; the old one signs on for `grace_s`.

    None: a rotation is under way, and there are never three secrets. A `grace_s` of 0 ends it.
    """
    row = tx.execute(
        text(
            f"""
            UPDATE {table.name} SET
                webhook_secret_version = webhook_secret_version + 1,
                webhook_previous_until = now() + make_interval(secs => :grace)
            WHERE id = :id
              AND (webhook_previous_until IS NULL OR webhook_previous_until <= now() OR :grace = 0)
            RETURNING id, webhook_secret_version, {PREVIOUS_UNTIL}
            """
        ),
        {"id": secret.id, "grace": grace_s},
    ).one_or_none()
    return None if row is None else SecretRecord(*row)


def add_test(tx: Connection, endpoint: EndpointRecord) -> DeliveryRecord | None:
    """Owe an endpoint a test event.

    None: MAX_OPEN_TESTS are open already, or it was disabled or removed a moment ago.
    """
    tx.execute(
        text(
            f"""
            DELETE FROM webhook_deliveries WHERE id IN (
                SELECT id FROM webhook_deliveries
                WHERE endpoint_id = :id AND job_id IS NULL AND NOT ({OPEN})
                ORDER BY created_at DESC OFFSET :kept
            )
            """
        ),
        {"id": endpoint.id, "kept": KEPT_TESTS - 1},
    )
    row = tx.execute(
        text(
            f"""
            INSERT INTO webhook_deliveries (owner_id, endpoint_id, event, url)
            SELECT :owner, id, '{TEST_EVENT}', :url
            FROM (SELECT id FROM webhook_endpoints
                  WHERE id = :id AND disabled_at IS NULL FOR SHARE) AS hook
            WHERE (SELECT count(*) FROM webhook_deliveries
                   WHERE endpoint_id = :id AND job_id IS NULL AND {OPEN}) < :most
            RETURNING {delivery_columns()}
            """
        ),
        {
            "id": endpoint.id,
            "owner": endpoint.owner_id,
            "url": endpoint.url,
            "most": MAX_OPEN_TESTS,
        },
    ).one_or_none()
    return None if row is None else DeliveryRecord(*row)
