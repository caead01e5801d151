"""Leaders that die or freeze, and drains, with real dispatchers and workers."""

import signal

from sqlalchemy import text

from app.store import keys
from app.store.traffic import controls, tables
from tests.support.fleet import wait_for

PERIOD_S = 1.0
QUICK = {"controller_period_s": PERIOD_S, "report_every_s": 0.5}


def makers(store, after=0):
    """Who has made the tables since version `after`, oldest first."""
    with store.autocommit() as conn:
        rows = conn.execute(
            text("SELECT version, made_by FROM routing_tables WHERE version > :after ORDER BY 1"),
            {"after": after},
        )
        return [(row.version, row.made_by) for row in rows]


def leader_of(fleet, dispatchers):
    """The dispatcher that made the last table, its name, and the table's version."""
    version, name = makers(fleet.store)[-1]
    [leader] = [d for d in dispatchers if any(line.get("name") == name for line in d.log)]
    return leader, name, version


def test_a_leader_that_is_killed_is_replaced_and_versions_go_on(fleet):
    dispatchers = [fleet.dispatcher(**QUICK) for _ in range(2)]
    fleet.worker().wait_ready()
    wait_for(lambda: makers(fleet.store), timeout_s=60)
    leader, name, _ = leader_of(fleet, dispatchers)
    leader.kill()
    last = makers(fleet.store)[-1][0]
    wait_for(lambda: makers(fleet.store, last), timeout_s=60)
    after = makers(fleet.store, last)
    assert name not in {made_by for _, made_by in after}
    assert after[0][0] == last + 1


def test_a_leader_that_freezes_is_replaced_and_writes_nothing_when_it_wakes(fleet):
    dispatchers = [fleet.dispatcher(**QUICK) for _ in range(2)]
    fleet.worker().wait_ready()
    wait_for(lambda: makers(fleet.store), timeout_s=60)
    frozen, name, last = leader_of(fleet, dispatchers)
    frozen.signal(signal.SIGSTOP)
    wait_for(lambda: any(made_by != name for _, made_by in makers(fleet.store, last)), timeout_s=60)
    taken_over, _ = next(row for row in makers(fleet.store, last) if row[1] != name)
    frozen.signal(signal.SIGCONT)
    wait_for(lambda: len(makers(fleet.store, taken_over)) >= 3, timeout_s=60)
    assert name not in {made_by for _, made_by in makers(fleet.store, taken_over)}
    assert frozen.alive


def test_a_drained_region_finishes_its_jobs_and_gets_no_new_ones(fleet):
    fleet.dispatcher(**QUICK)
    busy = fleet.worker("us-east", noop_step_s=0.5).wait_ready()
    first = fleet.submit(steps=8)
    fleet.wait(first, "processing", timeout_s=60)
    with fleet.store.begin() as tx:
        operator = keys.find(tx, keys.create(tx, "operator", ("admin",))[1])
        controls.change(tx, operator, "regions.drain", "drained", "us-east", True)
    # Without a wake-up, the controller publishes it within a period.
    wait_for(lambda: '"us-east"' in (fleet.redis.get("stillmotion:controls") or ""), timeout_s=30)
    fleet.worker("us-west").wait_ready()
    assert fleet.wait(first, "succeeded", timeout_s=60).region == "us-east"
    second = fleet.submit()
    assert fleet.wait(second, "succeeded", timeout_s=60).region == "us-west"
    assert busy.outcomes(second) == []


def test_a_table_is_built_from_what_real_workers_report(fleet):
    fleet.dispatcher(**QUICK)
    fleet.worker("us-west", noop_step_s=0.1).wait_ready()
    job = fleet.submit(steps=4, home_region="us-west")
    fleet.wait(job, "succeeded", timeout_s=60)

    def measured() -> bool:
        with fleet.store.autocommit() as conn:
            body = tables.latest(conn) or ""
        report = fleet.redis.get("stillmotion:report:us-west") or ""
        return '"us-west":1' in body.replace(" ", "") and '"measured": true' in report

    wait_for(measured, timeout_s=30)
