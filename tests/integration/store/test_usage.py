"""Usage by day stays the same while jobs are added up, and after their rows are gone."""

import random
from datetime import UTC, datetime, time, timedelta

import pytest
from sqlalchemy import text

from app.store.job import attempts, retention
from app.store.reports import usage
from tests.support import make

TODAY = datetime.combine(datetime.now(UTC).date(), time(), UTC)
# As it was before anything was added up: from the jobs alone.
FROM_JOBS = text(
    """
    SELECT (created_at AT TIME ZONE 'UTC')::date, profile, count(*),
        count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed'),
        count(*) FILTER (WHERE state = 'canceled'), count(*) FILTER (WHERE state = 'expired'),
        coalesce(sum(cost) FILTER (WHERE state = 'succeeded'), 0),
        coalesce(sum(extract(epoch FROM worked.time)), 0)
    FROM jobs LEFT JOIN LATERAL (
        SELECT sum(ended_at - begun_at) AS time FROM attempts WHERE job_id = jobs.id
    ) AS worked ON true
    WHERE owner_id = :owner AND created_at >= :since AND created_at < :before
    GROUP BY 1, 2 ORDER BY 1, 2
    """
)


def reported(store, owner, days=30):
    since, before = TODAY - timedelta(days=days - 1), TODAY + timedelta(days=1)
    with store.begin() as tx:
        return usage.by_day(tx, owner, since=since, before=before)


def counted(store, owner, days=30):
    values = {
        "owner": owner,
        "since": TODAY - timedelta(days=days - 1),
        "before": TODAY + timedelta(days=1),
    }
    names = ("jobs", *usage.STATES)
    with store.autocommit() as conn:
        return [
            {
                "day": day.isoformat(),
                "model": profile,
                **dict(zip(names, numbers, strict=True)),
                "cost_units": pytest.approx(float(cost), abs=1e-3),
                "gpu_seconds": pytest.approx(float(gpu), abs=1e-2),
            }
            for day, profile, *numbers, cost, gpu in conn.execute(FROM_JOBS, values)
        ]


def roll_up(store, **options):
    with store.begin() as tx:
        return usage.roll_up(tx, **options)


@pytest.fixture
def owner(store):
    """An owner of jobs of every kind, among another's."""
    draw = random.Random(3)
    owner, other = make.owner(store), make.owner(store)
    for _ in range(60):
        gone = {"purged_at": datetime.now(UTC)} if draw.random() < 0.3 else {}
        make.ended(
            store,
            owner if draw.random() < 0.8 else other,
            age_s=draw.uniform(120, 20 * 86_400),
            state=draw.choice(["succeeded", "succeeded", "failed", "canceled", "expired"]),
            profile=draw.choice(["noop", "motion-small"]),
            cost=draw.uniform(0.5, 4.0),
            **gone,
        )
    # Not settled yet, and live: one with an attempt behind it.
    make.ended(store, owner, age_s=10)
    make.submit(store, owner)
    with store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["t"])
        make.begin(tx, placed.job_id, placed.fence)
        attempts.requeue(tx, "id = :id", {"id": placed.job_id}, "lost", "worker_lost")
    make.submit(store, owner)
    return owner


def test_a_report_is_the_same_before_during_and_after_adding_up(store, owner):
    before = counted(store, owner)
    assert sum(entry["jobs"] for entry in before) > 40
    assert reported(store, owner) == before
    while roll_up(store, batch=7):
        assert reported(store, owner) == before
    assert reported(store, owner) == before
    assert not roll_up(store), "nothing is left to do"
    assert reported(store, owner) == before
    assert reported(store, owner, days=3) == counted(store, owner, days=3)


def test_a_job_that_ends_later_is_added_to_its_day(store, owner):
    while roll_up(store, settled_s=100.0):
        pass
    make.ended(store, owner, age_s=90, state="failed")
    assert reported(store, owner) == counted(store, owner)
    roll_up(store)
    assert reported(store, owner) == counted(store, owner)


def test_deleted_rows_still_count_and_none_is_deleted_before_it_counts(store, owner):
    long_ago = datetime.now(UTC) - timedelta(days=2)
    with store.begin() as tx:
        tx.execute(
            text("UPDATE jobs SET purged_at = :at WHERE purged_at IS NOT NULL"), {"at": long_ago}
        )
        before = counted(store, owner)
        assert retention.delete_tombstones(tx, limit=1000) == 0, "nothing has been added up"
    before = counted(store, owner)
    while roll_up(store):
        pass
    with store.begin() as tx:
        assert retention.delete_tombstones(tx, limit=1000) > 5
    assert reported(store, owner) == before
    assert counted(store, owner) != before


def test_two_dispatchers_add_nothing_up_twice(store, owner):
    before = counted(store, owner)
    with store.begin() as tx:
        usage.roll_up(tx, batch=10)
        assert not roll_up(store), "another process is at it"
    roll_up(store)
    assert reported(store, owner) == before
