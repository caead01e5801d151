"""Statements use the index that they were written for, whatever the statistics say.

Statistics are gathered while nothing is live, and then 10,000 jobs arrive: to the planner, the
indexes of live jobs still look empty.
"""

import psycopg
import pytest
from sqlalchemy import text

from app.domain.errors import RenderFailed
from app.store.job import attempts, fair, jobs, placing, reaping, retention
from app.store.job.placing import Offer
from app.store.job.records import OverdueAttempt
from scripts.benchmarks import scale_rows
from tests.support import make
from tests.support.plans import indexes_of, plans

FINISHED, WAITING = 20_000, 10_000
QUEUE = {"profile": "noop", "region": "us-east", "priority": 1}
RIGHT = {"pk_jobs", "ix_jobs_waiting", "ix_jobs_waiting_movable"}
OF_THE_OWNER = {"ix_jobs_kept"}  # by owner and id: one row, as by the primary key
LEASED = {"lease_token": make.LEASE}


def one_in_state(conn, state):
    found = text("SELECT id FROM jobs WHERE state = :state LIMIT 1")
    return conn.execute(found, {"state": state}).scalar_one()


@pytest.fixture
def crowd(store, database_url):
    """An owner, and one of its jobs in each live state: queued, starting, processing."""
    owner = make.owner(store)
    with psycopg.connect(database_url, autocommit=True) as conn:
        scale_rows.add_finished(conn, owner, FINISHED)
        scale_rows.let_statistics_age(conn, owner)
        scale_rows.add_waiting(conn, owner, WAITING)
    with store.begin() as tx:
        placed = make.place(tx, "noop", "us-east", "us-east", [f"t{i}" for i in range(200)])
        for row in placed[:100]:
            make.begin(tx, row.job_id, row.fence)
    with store.autocommit() as conn:
        queued = one_in_state(conn, "queued")
    yield owner, queued, placed[150], placed[50]
    with psycopg.connect(database_url, autocommit=True) as conn:
        for table in ("jobs", "attempts"):
            conn.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")


def test_a_job_is_found_by_its_key_and_a_queue_walked_in_its_order(store, crowd):
    owner, queued, starting, processing = crowd
    this = processing.job_id, processing.fence
    with store.autocommit() as conn:
        finished = one_in_state(conn, "succeeded")
    overdue = OverdueAttempt(*this, make.LEASE, "us-east", "noop", "w")
    fails = {"delay_s": 1.0, "next_region": "us-east", **LEASED}
    works = {
        "submit": lambda tx: fair.stamp(tx, owner, **QUEUE, cost=1.0),
        "peek": lambda tx: placing.peek(
            tx, "noop", ["us-east"], open_regions=["us-west"], limit=64
        ),
        "place": lambda tx: placing.place(tx, "us-east", [Offer(queued)], ["t"]),
        "take back": lambda tx: attempts.take_back(
            tx, starting.job_id, starting.fence, starting.token, "broker_unavailable"
        ),
        "begin": lambda tx: make.begin(tx, starting.job_id, starting.fence),
        "renew": lambda tx: attempts.renew(tx, *this, step=1, **LEASED),
        "finish": lambda tx: attempts.finish(tx, *this, "outputs/x.mp4", 1, **LEASED),
        "stop": lambda tx: attempts.stop(tx, *this, **LEASED),
        "fail": lambda tx: attempts.fail(tx, *this, RenderFailed("x"), **fails),
        "silent": lambda tx: reaping.reap_silent(tx, [overdue]),
        "cancel": lambda tx: jobs.cancel(tx, queued, owner_id=owner),
        "show": lambda tx: jobs.get_whole(tx, queued, owner_id=owner),
        "poll": lambda tx: jobs.poll_versions(tx, [queued]),
        "keep no longer": lambda tx: retention.keep_no_longer(tx, queued, owner_id=owner),
        "purge": lambda tx: retention.purge(tx, finished, owner_id=owner),
    }
    wrong = {}
    for name, work in works.items():
        for plan in plans(store, work, run=False):
            used = indexes_of(plan, "jobs") - RIGHT
            if name == "purge":
                used -= OF_THE_OWNER
            if used or indexes_of(plan, "attempts") - {"pk_attempts"}:
                wrong[name] = used
    assert not wrong

    # In the same test: the fixture is the dear part.
    hot = text("SELECT n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")
    with store.begin() as tx:
        for step in range(20):
            attempts.renew(tx, *this, step=step, **LEASED)
        assert tx.execute(hot).scalar_one() >= 15, "renewals change an index"
