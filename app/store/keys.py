"""API keys: 256 random bits, stored as their SHA-256."""

import secrets
from hashlib import sha256
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, bindparam, insert, select, text, update

from app.store.models import ApiKeyRow
from app.store.record import record

PREFIX = "sm_"
SCOPES = ("jobs", "admin")
# Built once: every request looks its key up.
LIVE = select(
    ApiKeyRow.id,
    ApiKeyRow.name,
    ApiKeyRow.scopes,
    ApiKeyRow.max_concurrency,
    ApiKeyRow.submits_per_minute,
).where(ApiKeyRow.revoked_at.is_(None))
FIND = LIVE.where(ApiKeyRow.digest == bindparam("digest"))
GET = LIVE.where(ApiKeyRow.id == bindparam("key_id"))


@record
class ApiKey:
    id: UUID
    name: str
    scopes: tuple[str, ...]
    max_concurrency: int | None = None  # None: the deployment's default
    submits_per_minute: int | None = None


def create(
    tx: Connection,
    name: str,
    scopes: tuple[str, ...] = ("jobs",),
    *,
    max_concurrency: int | None = None,
    submits_per_minute: int | None = None,
) -> tuple[UUID, str]:
    """Make a key; a limit of None means the deployment's default.

    Returns its id and its plain text, which is not stored.
    """
    plain = PREFIX + secrets.token_urlsafe(32)
    key_id = uuid4()
    tx.execute(
        insert(ApiKeyRow).values(
            id=key_id,
            name=name,
            digest=sha256(plain.encode()).digest(),
            prefix=plain[: len(PREFIX) + 6],
            scopes=list(scopes),
            max_concurrency=max_concurrency,
            submits_per_minute=submits_per_minute,
        )
    )
    return key_id, plain


def find(tx: Connection, plain: str) -> ApiKey | None:
    """The live key with this plain text. Looked up by digest, so timing leaks nothing."""
    return _key(tx.execute(FIND, {"digest": sha256(plain.encode()).digest()}).one_or_none())


def get(tx: Connection, key_id: UUID) -> ApiKey | None:
    """The live key with this id."""
    return _key(tx.execute(GET, {"key_id": key_id}).one_or_none())


def live(tx: Connection) -> list[ApiKey]:
    """Every key that is not revoked, oldest first."""
    rows = tx.execute(LIVE.order_by(ApiKeyRow.created_at, ApiKeyRow.id))
    return [ApiKey(row.id, row.name, tuple(row.scopes), *row[3:]) for row in rows]


def _key(row: Row[UUID, str, list[str], int | None, int | None] | None) -> ApiKey | None:
    return None if row is None else ApiKey(row.id, row.name, tuple(row.scopes), *row[3:])


def revoke(tx: Connection, key_id: UUID) -> bool:
    """Revoke a key. False: no such live key."""
    change = (
        update(ApiKeyRow)
        .where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=text("now()"))
    )
    return tx.execute(change).rowcount == 1
