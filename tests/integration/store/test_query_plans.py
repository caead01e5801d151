"""Placing and reaping 20,000 waiting jobs walks indexes in order and discards few rows."""

import pytest
from sqlalchemy import text

from app.store.job import fair, jobs, placing, reaping, retention
from app.store.job.placing import Offer
from app.store.reports import cluster, service_times
from tests.support import make
from tests.support.plans import nodes, plans

WAITING = 20_000
QUEUE = {"profile": "noop", "region": "us-east", "priority": 1}


def keys_of(tx):
    return tx.execute(text("SELECT id FROM api_keys LIMIT 1")).scalar_one()


@pytest.fixture
def crowd(store):
    """20,000 waiting jobs in two regions, and some in every other live state."""
    owner = make.owner(store)
    first = make.submit(store, owner)
    with store.begin() as tx:
        tx.execute(text("SET LOCAL statement_timeout = '60s'"))
        columns = [c.name for c in jobs.jobs.columns if c.name != "id"]
        copied = ", ".join(columns)
        chosen = ", ".join(
            {
                "next_region": "CASE WHEN n % 2 = 0 THEN 'us-east' ELSE 'eu-west' END",
                "policy": "CASE WHEN n % 3 = 0 THEN 'strict' ELSE 'ring' END",
            }.get(name, f"jobs.{name}")
            for name in columns
        )
        tx.execute(
            text(
                f"INSERT INTO jobs (id, {copied}) SELECT gen_random_uuid(), {chosen}"
                " FROM jobs, generate_series(1, :n) AS n WHERE jobs.id = :id"
            ),
            {"n": WAITING, "id": first},
        )
        placed = make.place(tx, "noop", "us-east", "us-east", [f"t{i}" for i in range(200)])
        for row in placed[:100]:
            make.begin(tx, row.job_id, row.fence)
        late = "now() - interval '1 min'"
        for column, state in (
            ("placed_at", "starting"),
            ("lease_until", "processing"),
        ):
            tx.execute(
                text(
                    f"UPDATE jobs SET {column} = {late} WHERE id IN"
                    f" (SELECT id FROM jobs WHERE state = '{state}' LIMIT 50)"
                )
            )
    with store.autocommit() as conn:
        conn.execute(text("ANALYZE jobs"))
        conn.execute(text("ANALYZE attempts"))
    return owner, first


def peek(tx):
    return placing.peek(tx, "noop", ["us-east", "eu-west"], open_regions=["us-west"], limit=64)


def offers(tx):
    return [Offer(job.job_id) for job in peek(tx)]


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("peek", lambda tx: peek(tx)),
        ("place", lambda tx: placing.place(tx, "eu-west", offers(tx), ["t"] * 64)),
        ("reap unbegun", reaping.reap_unbegun),
        ("reap lost", reaping.reap_lost),
        ("overdue", reaping.overdue),
        ("reap deadlines", reaping.reap_deadlines),
        ("next deadline", reaping.next_deadline_s),
        ("release", reaping.release),
        ("stamp", lambda tx: fair.stamp(tx, keys_of(tx), **QUEUE, cost=1.0)),
        ("cluster", cluster.live),
        ("busy", lambda tx: service_times.busy(tx, "noop")),
        ("purge", lambda tx: retention.purge_expired(tx, limit=10)),
    ],
)
def test_no_scan_no_sort_and_few_rows_discarded(store, crowd, name, work):
    seen = 0
    for plan in plans(store, work):
        for node in nodes(plan):
            # A sort of the rows just read is fine; a sort of the waiting jobs is not.
            assert node["Node Type"] != "Sort" or node["Actual Rows"] <= 64, (name, node)
            assert not (node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "jobs"), (
                name,
                node,
            )
            if node.get("Relation Name") == "jobs" and "Scan" in node["Node Type"]:
                seen += 1
                returned = node["Actual Rows"] * node["Actual Loops"]
                discarded = node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
                discarded += node.get("Rows Removed by Index Recheck", 0) * node["Actual Loops"]
                assert returned + discarded <= max(2 * returned, 2), (name, node)
    assert seen, "the plan reads no jobs at all"


def test_position_reads_no_further_than_the_job(store, crowd):
    _, first = crowd
    with store.autocommit() as conn:
        job = jobs.read(conn, first)
    for plan in plans(store, lambda tx: jobs.ahead(tx, job)):
        kinds = {node["Node Type"] for node in nodes(plan)}
        assert not kinds & {"Seq Scan", "Sort"}, kinds
