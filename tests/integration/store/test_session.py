"""Pooled connections: single statements and transactions by turns on the same one."""

import pytest
from sqlalchemy import text

from app.store.session import Store

KEEP = text("SELECT set_config('stillmotion.kept', :value, false)")
KEPT = text("SELECT current_setting('stillmotion.kept', true)")
PROCESS = text("SELECT pg_backend_pid()")


@pytest.fixture
def one(database_url):
    """A store with a single connection."""
    store = Store(database_url, pool_size=1)
    yield store
    store.close()


def test_a_connection_serves_single_statements_and_transactions_by_turns(one):
    processes = set()
    for turn in ("first", "second"):
        with pytest.raises(ZeroDivisionError), one.autocommit() as conn:
            processes.add(conn.execute(PROCESS).scalar_one())
            conn.execute(KEEP, {"value": turn})
            raise ZeroDivisionError  # what has run is committed
        with pytest.raises(ZeroDivisionError), one.begin() as tx:
            processes.add(tx.execute(PROCESS).scalar_one())
            tx.execute(KEEP, {"value": "undone"})
            raise ZeroDivisionError
        with one.autocommit() as conn:
            assert conn.execute(KEPT).scalar_one() == turn
        with one.begin() as tx:
            tx.execute(KEEP, {"value": f"{turn}, committed"})
        with one.begin() as tx:
            assert tx.execute(KEPT).scalar_one() == f"{turn}, committed"
    assert len(processes) == 1
