"""How often a job waits for the disk: twice in Postgres, and once for each of its objects."""

import os

import pytest
from sqlalchemy import text

from app.objects.local import LocalObjects
from app.store.job import attempts
from app.store.session import Store
from tests.support import make

JOBS = 5


@pytest.fixture
def one_connection(database_url):
    store = Store(database_url.replace("postgresql:", "postgresql+psycopg:"), pool_size=1)
    yield store
    store.close()


def flushes(store) -> int:
    """Of the log, by the one server process that serves this store."""
    with store.autocommit() as conn:
        conn.execute(text("SELECT pg_stat_force_next_flush()"))
    with store.autocommit() as conn:
        found = conn.execute(
            text(
                "SELECT sum(fsyncs) FROM pg_stat_get_backend_io(pg_backend_pid())"
                " WHERE object = 'wal'"
            )
        )
        return int(found.scalar_one() or 0)


def test_a_job_waits_for_the_log_at_its_submit_and_at_its_end(one_connection):
    store = one_connection
    owner = make.owner(store)
    before = flushes(store)
    for n in range(JOBS):
        make.submit(store, owner)
        with store.begin() as tx:
            [one] = make.place(tx, "noop", "us-east", "us-east", [f"t{n}"])
        with store.autocommit() as conn:
            make.begin(conn, one.job_id, one.fence)
            assert attempts.renew(conn, one.job_id, one.fence, step=1, lease_token=make.LEASE)
        with store.autocommit() as conn:
            assert attempts.finish(
                conn, one.job_id, one.fence, "outputs/x.mp4", 10, lease_token=make.LEASE
            )
    # Not always all of them: the log's writer may have been there first. Seldom one more: a full
    # buffer of the log is written early.
    assert JOBS < flushes(store) - before <= 2 * JOBS + 2


def test_a_new_object_is_one_flush(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(fd))
    LocalObjects(tmp_path, ["k" * 32], "http://x").put("inputs/a/b.jpg", b"picture", "image/jpeg")
    assert len(flushed) == 1
