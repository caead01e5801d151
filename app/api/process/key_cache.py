"""A short-lived cache of API keys."""

from collections.abc import Callable
from hashlib import sha256
from threading import Lock
from time import monotonic
from uuid import UUID

from sqlalchemy import Connection

from app.store import keys
from app.store.keys import ApiKey
from app.store.session import Store

REMEMBER_S = 1.0  # a revoked key keeps working for this long
MAX_REMEMBERED = 10_000


class KeyCache:
    """Looks up each live key at most once per REMEMBER_S; the lookup was half the cost of a poll.

    Only live keys are remembered, so guessing cannot fill the cache.
    """

    def __init__(self, store: Store):
        self._store = store
        self._lock = Lock()
        self._known: dict[bytes, tuple[ApiKey, float]] = {}  # by digest, and by id
        self._looking: set[bytes] = set()

    def find(self, plain: str) -> ApiKey | None:
        """The live key with this plain text. Raises DatabaseUnavailable."""
        return self._known_or(sha256(plain.encode()).digest(), lambda tx: keys.find(tx, plain))

    def get(self, key_id: UUID) -> ApiKey | None:
        """The live key with this id. Raises DatabaseUnavailable."""
        return self._known_or(key_id.bytes, lambda tx: keys.get(tx, key_id))

    def _known_or(self, name: bytes, look: Callable[[Connection], ApiKey | None]) -> ApiKey | None:
        now = monotonic()
        key, until = self._known.get(name, (None, 0.0))
        if key is not None and now < until:
            return key
        with self._lock:
            if key is not None and name in self._looking:
                return key  # somebody is asking already: a key with 200 streams asks once
            self._looking.add(name)
        try:
            with self._store.autocommit() as conn:
                key = look(conn)
            with self._lock:
                self._known.pop(name, None)
                if key is not None:
                    if len(self._known) >= MAX_REMEMBERED:
                        self._known.clear()
                    self._known[name] = key, now + REMEMBER_S
        finally:
            with self._lock:
                self._looking.discard(name)
        return key
