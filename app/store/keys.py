"""API keys: 256 random bits, stored as their SHA-256."""

import secrets
from hashlib import sha256
from typing import Any, TypedDict, Unpack
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, bindparam, insert, select, text, update

from app.store.models import ApiKeyRow
from app.store.record import record

PREFIX = "sm_"
SCOPES = ("jobs", "admin")
DEFAULT_BEST_PRIORITY = 1
# Built once: every request looks its key up.
LIVE = select(
    ApiKeyRow.id,
    ApiKeyRow.name,
    ApiKeyRow.scopes,
    ApiKeyRow.max_concurrency,
    ApiKeyRow.submits_per_minute,
    ApiKeyRow.upload_mb_per_day,
    ApiKeyRow.webhooks_in_flight,
    ApiKeyRow.best_priority,
).where(ApiKeyRow.revoked_at.is_(None))
FIND = LIVE.where(ApiKeyRow.digest == bindparam("digest"))
GET = LIVE.where(ApiKeyRow.id == bindparam("key_id"))


class Limits(TypedDict, total=False):
    """What a key may use. None: the deployment's default. 0: unlimited."""

    max_concurrency: int | None
    submits_per_minute: int | None
    upload_mb_per_day: int | None
    webhooks_in_flight: int | None
    best_priority: int  # of its jobs; 0 is taken first, 2 last


@record
class ApiKey:
    """A live key, with its Limits."""

    id: UUID
    name: str
    scopes: tuple[str, ...]
    max_concurrency: int | None = None
    submits_per_minute: int | None = None
    upload_mb_per_day: int | None = None
    webhooks_in_flight: int | None = None
    best_priority: int = DEFAULT_BEST_PRIORITY

    @property
    def limits(self) -> Limits:
        return Limits(
            max_concurrency=self.max_concurrency,
            submits_per_minute=self.submits_per_minute,
            upload_mb_per_day=self.upload_mb_per_day,
            webhooks_in_flight=self.webhooks_in_flight,
            best_priority=self.best_priority,
        )


def limit(own: int | None, default: int) -> int | None:
    """The limit that applies to a key. None: unlimited."""
    return (default if own is None else own) or None


def create(
    tx: Connection, name: str, scopes: tuple[str, ...] = ("jobs",), **limits: Unpack[Limits]
) -> tuple[UUID, str]:
    """Make a key. Returns its id and its plain text, which is not stored."""
    plain = PREFIX + secrets.token_urlsafe(32)
    key_id = uuid4()
    tx.execute(
        insert(ApiKeyRow).values(
            id=key_id,
            name=name,
            digest=sha256(plain.encode()).digest(),
            prefix=plain[: len(PREFIX) + 6],
            scopes=list(scopes),
            **limits,
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
    return [_record(row) for row in rows]


def _key(row: Row[*tuple[Any, ...]] | None) -> ApiKey | None:
    return None if row is None else _record(row)


def _record(row: Row[*tuple[Any, ...]]) -> ApiKey:
    return ApiKey(row.id, row.name, tuple(row.scopes), *row[3:])


def change(tx: Connection, key_id: UUID, **limits: Unpack[Limits]) -> ApiKey | None:
    """Change those limits of a key that are named. None: no such live key."""
    if limits:
        live_key = (ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
        tx.execute(update(ApiKeyRow).where(*live_key).values(**limits))
    return get(tx, key_id)


def revoke(tx: Connection, key_id: UUID) -> bool:
    """Revoke a key. False: no such live key."""
    change = (
        update(ApiKeyRow)
        .where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=text("now()"))
    )
    return tx.execute(change).rowcount == 1
