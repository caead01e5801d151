"""Lists of jobs: what they show, and that they read little else."""

import random
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from app.store.job import lists, retention
from app.store.job.lists import Filter
from scripts.benchmarks import scale_rows
from tests.support import make
from tests.support.plans import nodes, plans

NOW = datetime.now(UTC)


def page(store, owner, **asked):
    limit, newest_first = asked.pop("limit", 20), asked.pop("newest_first", True)
    with store.autocommit() as conn:
        return [
            job.id
            for job in lists.page(
                conn, owner, limit=limit, only=Filter(**asked), newest_first=newest_first
            )
        ]


@pytest.fixture
def rows(store):
    """An owner, and 120 jobs of all kinds: (id, state, labels, created_at) of those it may list."""
    draw = random.Random(5)
    owner, other = make.owner(store), make.owner(store)
    kept = []
    for _ in range(120):
        age_s = draw.uniform(0, 10 * 86_400)
        state = draw.choice(["succeeded", "succeeded", "failed", "canceled"])
        labels = {
            name: draw.choice(values)
            for name, values in {"shop": "ab", "order": "123456789"}.items()
            if draw.random() < 0.8
        }
        changes = {"state": state, "metadata": labels}
        if gone := draw.random() < 0.2:
            changes |= draw.choice(
                [{"expires_at": NOW - timedelta(hours=1)}, {"purged_at": NOW, "metadata": {}}]
            )
        mine = draw.random() < 0.8
        job_id = make.ended(store, owner if mine else other, age_s=age_s, **changes)
        if mine and not gone:
            kept.append((job_id, state, labels, make.read(store, job_id).created_at))
    return owner, kept


def test_every_filter_and_every_page_shows_what_it_should(store, rows):
    owner, kept = rows
    draw = random.Random(6)
    for _ in range(60):
        labels = {name: draw.choice("ab12345") for name in draw.sample(["shop", "order"], k=2)}
        labels = dict(list(labels.items())[: draw.randrange(3)])
        state = draw.choice([None, "succeeded", "failed", "queued"])
        since = draw.choice([None, NOW - timedelta(days=6)])
        before = draw.choice([None, NOW - timedelta(days=2)])
        newest_first = draw.random() < 0.7
        wanted = sorted(
            (
                job_id
                for job_id, its_state, its_labels, created in kept
                if (state is None or its_state == state)
                and labels.items() <= its_labels.items()
                and (since is None or created >= since)
                and (before is None or created < before)
            ),
            reverse=newest_first,
        )
        asked = {
            "state": state,
            "labels": labels,
            "created_from": since,
            "created_before": before,
            "newest_first": newest_first,
            "limit": 3,
        }
        found, cursor = [], None
        while more := page(store, owner, cursor=cursor, **asked):
            found += more
            cursor = more[-1]
        assert found == wanted, asked


def test_a_purge_forgets_the_labels_too(store):
    owner = make.owner(store)
    job_id = make.ended(store, owner, metadata={"order": "7"})
    assert page(store, owner, labels={"order": "7"}) == [job_id]
    with store.begin() as tx:
        retention.purge(tx, job_id, owner_id=owner)
    assert page(store, owner, labels={"order": "7"}) == []
    with store.autocommit() as conn:
        assert conn.execute(text("SELECT count(*) FROM job_labels")).scalar_one() == 0


def test_only_texts_can_be_asked_for(store):
    """Metadata that an operator wrote may hold anything."""
    owner = make.owner(store)
    make.ended(store, owner, metadata={"order": 7, "tags": ["a"], "none": None})
    assert page(store, owner, labels={"order": "7"}) == []


# --- how much they read -------------------------------------------------------------------------

MANY = 10_000


@pytest.fixture
def crowd(store, database_url):
    """An owner of many jobs: 20 old ones have a rare label, and all have a frequent one."""
    owner = make.owner(store)
    with psycopg.connect(database_url, autocommit=True) as conn:
        scale_rows.add_finished(conn, owner, MANY)
        conn.execute("VACUUM (ANALYZE) jobs")  # as autovacuum soon does
    return owner


def rows_read(store, owner, **asked):
    """How many rows of `jobs` the statements of a page read."""
    count, only = 0, Filter(**asked)
    for plan in plans(store, lambda tx: lists.page(tx, owner, limit=20, only=only)):
        for node in nodes(plan):
            if node.get("Relation Name") == "jobs" and "Scan" in node["Node Type"]:
                removed = node.get("Rows Removed by Filter", 0)
                count += (node["Actual Rows"] + removed) * node["Actual Loops"]
    return count


def test_a_page_reads_little_more_than_it_shows(store, crowd):
    spring, main = {"campaign": "spring"}, {"shop": "main"}
    for asked, shown, most in (
        ({}, 20, 20),
        ({"labels": spring}, 20, 20),
        ({"labels": main | spring}, 20, 20),
        ({"labels": main}, 20, 40),
        ({"state": "succeeded"}, 20, 20),
        ({"state": "failed"}, 0, 0),
        ({"state": "failed", "labels": main}, 0, 0),
        ({"labels": {"shop": "none"}}, 0, 0),
    ):
        assert len(page(store, crowd, **asked)) == shown, asked
        assert rows_read(store, crowd, **asked) <= most, asked


def test_tombstones_and_other_owners_jobs_are_not_walked(store, crowd, database_url):
    """By its share of the table, the planner expects to meet this owner's jobs everywhere."""
    other = make.owner(store)
    with psycopg.connect(database_url, autocommit=True) as conn:
        scale_rows.add_finished(conn, other, MANY // 4, purged=True)
        conn.execute("VACUUM (ANALYZE) jobs")
    assert page(store, other) == []
    assert rows_read(store, other) == 0
    assert rows_read(store, other, state="succeeded") == 0
