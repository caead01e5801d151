"""API keys that were seen a moment ago."""

from collections.abc import Callable
from hashlib import sha256
from threading import Lock
from time import monotonic
from uuid import UUID

from sqlalchemy import Connection

from app.store import keys
from app.store.keys import ApiKey
from app.store.session import Store

REMEMBER_S = 1.0  # a revoked key works this much longer
MAX_REMEMBERED = 10_000


class KnownKeys:
    """Live keys, looked up at most once per REMEMBER_S each: half of a poll's cost was this.

    What is not a key is never remembered, so guessing fills nothing.
    """

    def __init__(self, store: Store):
        self._store = store
        self._lock = Lock()
        self._known: dict[bytes, tuple[ApiKey, float]] = {}  # by digest, and by id

    def find(self, plain: str) -> ApiKey | None:
        """The live key with this plain text. Raises DatabaseUnavailable."""
        return self._known_or(sha256(plain.encode()).digest(), lambda tx: keys.find(tx, plain))

    def get(self, key_id: UUID) -> ApiKey | None:
        """The live key of this id. Raises DatabaseUnavailable."""
        return self._known_or(key_id.bytes, lambda tx: keys.get(tx, key_id))

    def _known_or(self, name: bytes, look: Callable[[Connection], ApiKey | None]) -> ApiKey | None:
        now = monotonic()
        key, until = self._known.get(name, (None, 0.0))
        if key is not None and now < until:
            return key
        with self._store.autocommit() as conn:
            key = look(conn)
        with self._lock:
            self._known.pop(name, None)
            if key is not None:
                if len(self._known) >= MAX_REMEMBERED:
                    self._known.clear()
                self._known[name] = key, now + REMEMBER_S
        return key
