"""API keys that were seen a moment ago."""

from hashlib import sha256
from threading import Lock
from time import monotonic

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
        self._known: dict[bytes, tuple[ApiKey, float]] = {}  # by digest

    def find(self, plain: str) -> ApiKey | None:
        """The live key with this plain text. Raises DatabaseUnavailable."""
        now, digest = monotonic(), sha256(plain.encode()).digest()
        key, until = self._known.get(digest, (None, 0.0))
        if key is not None and now < until:
            return key
        with self._store.once() as tx:
            key = keys.find(tx, plain)
        with self._lock:
            self._known.pop(digest, None)
            if key is not None:
                if len(self._known) >= MAX_REMEMBERED:
                    self._known.clear()
                self._known[digest] = key, now + REMEMBER_S
        return key
