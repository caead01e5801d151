"""Queue floors: walks that an open snapshot does not lengthen, and jobs that stay in sight."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from app.domain.errors import Transient
from app.store.job import attempts, fair, floors, jobs, placing, reaping
from app.store.traffic import demand
from scripts.benchmarks import scale
from tests.support import make
from tests.support.plans import indexes_of, nodes, plans

QUEUE = {"profile": "noop", "region": "us-east", "priority": 1}
JOBS = 512
PAGES = 150  # that a walk may touch; before there were floors, more than JOBS


def move(store, times=2):
    """Move the floors at once; a present becomes the floor with the second move."""
    for _ in range(times):
        with store.autocommit() as conn:
            floors.move(conn, ["noop"], ["us-east", "us-west"], every_s=0.0)


def seen(store):
    with store.autocommit() as conn:
        waiting = placing.peek(conn, "noop", ["us-east", "us-west"], open_regions=[], limit=64)
    return [job.job_id for job in waiting]


def pages(plan):
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.fixture
def owner(store):
    return make.owner(store)


@pytest.fixture
def passed(store, owner):
    """A placed job, and floors that have gone past its place in the queue."""
    make.submit(store, owner, vstart=3.0)
    with store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["t"])
    make.submit(store, owner, vstart=50.0)
    move(store)
    return placed


@pytest.mark.parametrize("waiting", [0, 20])
def test_an_open_snapshot_lengthens_no_walk_of_a_queue(store, owner, database_url, waiting):
    with scale.snapshot(database_url):
        for _ in range(waiting):
            with store.autocommit() as conn:
                scale.submit(conn, owner)
        scale.churn(store, owner, JOBS)
        move(store)
        works = {
            "stamp": lambda tx: fair.stamp(tx, owner, **QUEUE, cost=1.0),
            "estimate": lambda tx: fair.peek(tx, owner, **QUEUE),
            "peek": lambda tx: placing.peek(tx, "noop", ["us-east"], open_regions=[], limit=64),
            "count": lambda tx: demand.waiting(tx, ["us-east"], ["noop"]),
            "move": lambda tx: floors.move(tx, ["noop"], ["us-east"], every_s=0.0),
        }
        touched = {name: sum(map(pages, plans(store, work))) for name, work in works.items()}
    assert max(touched.values()) <= PAGES, touched


def test_a_mark_is_found_by_its_owner_whatever_the_statistics_say(store, owner):
    [plan] = plans(store, lambda tx: fair.stamp(tx, owner, **QUEUE, cost=1.0), run=False)
    assert indexes_of(plan, "fair_marks") == {"pk_fair_marks", "ix_fair_marks_queue"}
    used = [node.get("Index Name") for node in nodes(plan)]
    assert used.count("ix_fair_marks_queue") == 1, "for the queue's present alone"


def test_a_retry_is_taken_first_though_the_floor_has_passed_it(store, passed):
    with store.begin() as tx:
        make.begin(tx, passed.job_id, passed.fence)
        error, leased = Transient("x"), {"lease_token": make.LEASE}
        attempts.fail(
            tx, passed.job_id, passed.fence, error, delay_s=0.0, next_region="us-east", **leased
        )
    assert seen(store)[0] == passed.job_id


def test_a_backoff_that_ends_long_after_the_floor_has_moved_on_ends_in_sight(store, passed, owner):
    with store.begin() as tx:
        make.begin(tx, passed.job_id, passed.fence)
        error, leased = Transient("x"), {"lease_token": make.LEASE}
        attempts.fail(
            tx, passed.job_id, passed.fence, error, delay_s=9.0, next_region="us-east", **leased
        )
    with store.begin() as tx:
        assert make.place(tx, "noop", "us-east", "us-east", ["u"])
    make.submit(store, owner, vstart=900.0)
    move(store)
    make.backdate(store, passed.job_id, "not_before")
    with store.begin() as tx:
        assert reaping.release(tx)[0] == 1
    assert seen(store)[0] == passed.job_id


def test_a_job_of_a_release_without_floors_is_in_sight(store, passed, owner):
    late = make.submit(store, owner, vstart=1.0)
    assert late in seen(store)


def test_jobs_of_a_removed_region_are_in_sight_in_their_new_one(store, passed, owner):
    moved = make.submit(store, owner, home_region="nowhere", vstart=2.0)
    make.backdate(store, moved, "created_at", 100.0)
    with store.begin() as tx:
        assert reaping.rehome(tx, ["us-east"], "us-east") == 1
    assert moved in seen(store)


def test_floors_stop_at_a_job_that_waits(store, owner):
    first = make.submit(store, owner, vstart=10.0)
    for vstart in (20.0, 30.0):
        make.submit(store, owner, vstart=vstart)
        move(store, 3)
    assert seen(store)[0] == first


def test_a_submit_that_commits_too_late_is_found_by_the_full_walk(store, owner):
    with store.begin() as tx:
        late = jobs.add(tx, make.new_job(owner, vstart=5.0)).id
        make.submit(store, owner, vstart=90.0)
        move(store, 3)
    assert late not in seen(store)
    with store.autocommit() as conn:
        assert floors.lower(conn) == 1
    assert seen(store)[0] == late
    move(store)
    assert seen(store)[0] == late, "the next moves stop at it"


def test_an_empty_queue_starts_where_its_last_one_ended(store, owner):
    with store.autocommit() as conn:
        for _ in range(3):
            fair.stamp(conn, owner, **QUEUE, cost=1.0)
    move(store)
    with store.autocommit() as conn:
        newcomer = fair.stamp(conn, make.owner(store), **QUEUE, cost=1.0)
    assert newcomer.vstart == 3.0


def test_concurrent_submits_of_a_key_get_starts_of_their_own(store, owner):
    def stamp(_):
        with store.autocommit() as conn:
            return fair.stamp(conn, owner, **QUEUE, cost=1.0).vstart

    first = stamp(0)
    with ThreadPoolExecutor(8) as threads:
        starts = list(threads.map(stamp, range(40)))
    assert sorted(starts) == [first + n for n in range(1, 41)]


def test_the_floors_of_two_dispatchers_move_no_faster(store, owner):
    """A submit has EVERY_S between reading a floor and committing, however many move it."""
    make.submit(store, owner, vstart=10.0)
    for _ in range(3):
        with store.autocommit() as conn:
            floors.move(conn, ["noop"], ["us-east"])
    found = text("SELECT max(vstart) FROM queue_floors")
    with store.autocommit() as conn:
        assert conn.execute(found).scalar_one() == float("-inf")
