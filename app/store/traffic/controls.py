"""Operators' decisions about traffic. Every change writes an audit entry.

These rows are authoritative; Redis holds copies for dispatchers and workers.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from app.domain.routing.controls import Controls
from app.store.keys import ApiKey
from app.store.record import record
from app.store.traffic.models import AuditRow, ControlRow

Setting = Literal["drained", "cap", "drained_worker", "pinned"]
Value = bool | int | None  # of a cap: a number of workers, or None

CONTROLS_LOCK = 0x5717_1108  # an advisory lock of the database


@record
class AuditRecord:
    """One row of `audit_entries`: who, what, when, the value before and after."""

    id: int
    at: datetime
    key_id: UUID
    key_name: str
    verb: str
    subject: str
    old: Value
    new: Value


def read(tx: Connection) -> Controls:
    """All decisions in force."""
    rows = tx.execute(select(ControlRow.setting, ControlRow.subject, ControlRow.value)).fetchall()

    def subjects(setting: str) -> frozenset[str]:
        return frozenset(row.subject for row in rows if row.setting == setting)

    return Controls(
        drained=subjects("drained"),
        caps={row.subject: row.value for row in rows if row.setting == "cap"},
        drained_workers=subjects("drained_worker"),
        pinned=bool(subjects("pinned")),
    )


def change(
    tx: Connection, key: ApiKey, verb: str, setting: Setting, subject: str, value: Value
) -> Controls:
    """Put a decision in force and audit it. False, or None for a cap, lifts it.

    Returns all decisions in force afterwards.
    """
    # One change at a time, so that the old value in the audit is the one that was replaced.
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CONTROLS_LOCK})
    this = (ControlRow.setting == setting, ControlRow.subject == subject)
    found = tx.execute(select(ControlRow.value).where(*this)).one_or_none()
    if setting == "cap":
        old: Value = None if found is None else found.value
        lifted, stored = value is None, value
    else:
        old = found is not None
        lifted, stored = not value, None
    if lifted:
        tx.execute(delete(ControlRow).where(*this))
    else:
        row = upsert(ControlRow).values(setting=setting, subject=subject, value=stored)
        tx.execute(
            row.on_conflict_do_update(
                index_elements=["setting", "subject"], set_={"value": row.excluded.value}
            )
        )
    tx.execute(
        insert(AuditRow).values(
            key_id=key.id, key_name=key.name, verb=verb, subject=subject, old=old, new=value
        )
    )
    return read(tx)


def audit(tx: Connection, *, limit: int, after: int | None = None) -> Sequence[AuditRecord]:
    """At most `limit` audit entries, newest first, older than entry `after`."""
    query = select(*AuditRow.__table__.c).order_by(AuditRow.id.desc()).limit(limit)
    if after is not None:
        query = query.where(AuditRow.id < after)
    return [AuditRecord(*row) for row in tx.execute(query)]
