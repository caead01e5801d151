"""The database's time. It is the only clock that a deployment shares: hosts' clocks differ."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock, Thread
from time import monotonic, time

import structlog
from sqlalchemy import text

from app.domain.errors import DatabaseUnavailable
from app.store.session import Store

log = structlog.get_logger(__name__)

FRESH_S = 10.0  # older than this, the difference is measured again in the background
STALE_S = 60.0  # older than this, the caller waits for the measurement
GOOD_ROUND_TRIP_S = 0.002  # a measurement is off by at most half its round trip
TRIES = 3
CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::float8")


class DatabaseClock:
    """Tells the database's time without asking for it each time. Safe for threads.

    It asks now and then, and counts on by the host's monotonic clock, which runs at the same pace
    however wrong the host's date is. While the database does not answer it counts on; if it never
    has answered, the host's date must do.

    Statements that decide something use `now()` in SQL. This is for what is shown, and for what
    processes tell each other.
    """

    def __init__(
        self,
        store: Store,
        *,
        elapsed: Callable[[], float] = monotonic,
        host: Callable[[], float] = time,
    ):
        self._store = store
        self._elapsed = elapsed
        self._host = host
        self._ahead: float | None = None  # the database's Unix time minus `elapsed`
        self._measured_at = -STALE_S
        self._measuring = Lock()

    def __call__(self) -> float:
        """Unix seconds."""
        age_s = self._elapsed() - self._measured_at
        if age_s >= STALE_S:
            with self._measuring:
                if self._elapsed() - self._measured_at >= STALE_S:
                    self._measure()
        elif age_s >= FRESH_S and self._measuring.acquire(blocking=False):
            Thread(target=self._measure_aside, name="database-clock", daemon=True).start()
        ahead = self._ahead
        return self._host() if ahead is None else self._elapsed() + ahead

    def now(self) -> datetime:
        return datetime.fromtimestamp(self(), UTC)

    def _measure_aside(self) -> None:
        try:
            self._measure()
        finally:
            self._measuring.release()

    def _measure(self) -> None:
        best_s = float("inf")
        try:
            for _ in range(TRIES):
                with self._store.autocommit() as conn:
                    asked = self._elapsed()
                    found = float(conn.execute(CLOCK).scalar_one())
                    answered = self._elapsed()
                if answered - asked < best_s:
                    best_s = answered - asked
                    self._ahead = found - (asked + answered) / 2
                if best_s <= GOOD_ROUND_TRIP_S:
                    break
        except DatabaseUnavailable as error:
            log.warning("database_time_unknown", error=error.detail)
        # After a failure, too: not every caller is to wait for a database that does not answer.
        self._measured_at = self._elapsed()


class ClockSince:
    """The database's time, counted on from a moment that a statement has just returned."""

    def __init__(self, moment: datetime):
        self._moment = moment
        self._since = monotonic()

    def now(self) -> datetime:
        return self._moment + timedelta(seconds=monotonic() - self._since)
