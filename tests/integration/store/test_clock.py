"""The database's time, as a process counts it."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.store.clock import FRESH_S, STALE_S, ClockSince, DatabaseClock
from app.store.session import Store
from tests.support import services

LATE_S = 2.0  # between two looks at a busy machine


def database_time(store):
    with store.autocommit() as conn:
        return conn.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()


class Elapsed:
    """A monotonic clock that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_the_host_s_date_does_not_matter(store):
    clock = DatabaseClock(store, host=lambda: 0.0)
    assert clock() == pytest.approx(float(database_time(store)), abs=LATE_S)
    assert clock.now().tzinfo is UTC


def test_it_counts_on_between_measurements_and_measures_aside(store):
    elapsed = Elapsed()
    clock = DatabaseClock(store, elapsed=elapsed)
    began = clock()
    elapsed.now += FRESH_S - 1.0
    assert clock() == pytest.approx(began + FRESH_S - 1.0)
    # The database's clock has not moved that far; the next measurement finds out, in a thread.
    elapsed.now += 2.0
    assert clock() == pytest.approx(began + FRESH_S + 1.0, abs=LATE_S)
    services.wait_until(lambda: abs(clock() - float(database_time(store))) < LATE_S)
    # After a long pause the caller waits for a new one: nothing is known of the time between.
    elapsed.now += STALE_S
    assert clock() == pytest.approx(float(database_time(store)), abs=LATE_S)


def test_without_a_database_it_counts_on_or_believes_the_host():
    nowhere = Store("postgresql+psycopg://u@127.0.0.1:1/x", timeout_s=0.5)
    elapsed = Elapsed()
    clock = DatabaseClock(nowhere, elapsed=elapsed, host=lambda: 7.0)
    assert clock() == 7.0
    clock._ahead = 100.0
    elapsed.now += 3 * STALE_S
    assert clock() == elapsed.now + 100.0
    nowhere.close()


def test_counting_from_a_moment():
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    clock = ClockSince(moment)
    first = clock.now()
    assert moment <= first <= clock.now()
    assert (first - moment).total_seconds() < LATE_S
