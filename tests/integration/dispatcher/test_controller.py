"""The controller's cycle on real reports (tables made, refused, pinned), and the reporter."""

import time

import pytest
from sqlalchemy import insert

from app.broker import traffic
from app.broker.traffic import RegionReport
from app.dispatcher.control.controller import Controller
from app.dispatcher.control.reports import DEMAND_WINDOW_S, Reporter
from app.domain.routing.capacity import RAMP_START, ceiling
from app.domain.routing.controls import Controls
from app.domain.routing.table import Table
from app.domain.routing.topology import Pool
from app.store import keys
from app.store.traffic import controls, tables
from app.store.traffic.demand import SETTLE_S
from app.store.traffic.models import RoutingTableRow
from app.telemetry import DISPATCHER
from tests.support.deployment import NAMES, report

CEILING = ceiling(20) * 20 / 4.0  # jobs/s of one of the deployment's regions
value = DISPATCHER.get_sample_value
WARM = {"demand": 1.08 * CEILING, "busy": 14}  # slightly too much: the near ring suffices


@pytest.fixture
def session(store):
    with store.session() as session:
        yield session


@pytest.fixture
def controller(deployment):
    return Controller(deployment.settings, deployment.store, deployment.redis, "c1")


def refusals(metric, **labels):
    return value(f"stillmotion_{metric}_refused_total", labels) or 0.0


def decide(deployment, setting, subject, value):
    with deployment.store.begin() as tx:
        key = keys.find(tx, keys.create(tx, "operator", ("admin",))[1])
        return controls.change(tx, key, "test", setting, subject, value)


def test_a_hot_home_sheds_to_its_near_ring_and_the_table_is_kept_and_copied(
    deployment, session, controller
):
    deployment.reports(home=WARM)
    made = controller.cycle(session)
    assert made.shares["home"]["near"] > 0.02
    assert set(made.shares["home"]) == {"home", "near"}
    assert Table.from_json(tables.latest(session)) == made
    assert Table.from_json(traffic.read(deployment.client, []).table) == made
    deployment.reports(home=WARM)
    assert controller.cycle(session).version == made.version + 1
    assert value("stillmotion_optimality_gap_points") == pytest.approx(0, abs=3)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("future", report("near", 99, sent_at=time.time() + 3600).to_json()),
        ("old_sequence", report("near", 0, ready=1, busy=0).to_json()),
        ("bad_number", report("near", 99, busy=21).to_json()),
        ("unreadable", "[]"),
    ],
)
def test_an_impossible_report_is_refused_and_the_last_one_stays(
    deployment, session, controller, reason, text
):
    deployment.reports()
    controller.cycle(session)
    before = refusals("reports", reason=reason)
    deployment.client.set("stillmotion:report:near", text)
    for _ in range(2):
        made = controller.cycle(session)
    assert refusals("reports", reason=reason) == before + 1, (
        "counted once, however often it is read"
    )
    assert made.ready["near"] == 20


def test_a_table_built_from_guesses_is_refused_and_the_old_one_stays(
    deployment, session, controller
):
    deployment.reports()
    good = controller.cycle(session)
    old = time.time() - 60
    deployment.reports(**{name: {"sent_at": old} for name in NAMES[:3]})
    silent = Controller(deployment.settings, deployment.store, deployment.redis, "c2")
    before = refusals("tables", where="made", reason="stale_reports")
    with deployment.store.session() as other:
        assert silent.cycle(other) is None
    assert refusals("tables", where="made", reason="stale_reports") == before + 1
    assert Table.from_json(tables.latest(session)) == good


def test_an_unreadable_last_table_is_refused_and_replaced(deployment, session, controller):
    with deployment.store.begin() as tx:
        row = {"version": 41, "made_by": "x", "body": "[]"}
        tx.execute(insert(RoutingTableRow).values(**row))
    before = refusals("tables", where="read", reason="unreadable")
    deployment.reports()
    assert controller.cycle(session).version == 42
    assert refusals("tables", where="read", reason="unreadable") == before + 1


def test_a_jump_of_demand_is_refused_until_it_has_lasted(deployment, session):
    now = time.time()
    clock = [now]
    controller = Controller(
        deployment.settings, deployment.store, deployment.redis, "c1", clock=lambda: clock[0]
    )
    deployment.reports(**{name: {"demand": 0.5} for name in NAMES})
    assert controller.cycle(session) is not None
    made = []
    for _ in range(4):
        clock[0] += 10
        deployment.reports(**{name: {"demand": 90.0, "sent_at": clock[0]} for name in NAMES})
        made.append(controller.cycle(session))
    assert made[0] is None
    assert made[-1] is not None, "by then the old table is stale, so the jump is accepted"


def test_a_drained_region_gets_no_share_and_a_capped_one_a_lower_ceiling(
    deployment, session, controller
):
    decide(deployment, "drained", "near", True)
    decide(deployment, "cap", "middle", 5)
    calm = {"demand": 0.5}
    deployment.reports(home=WARM, near=calm, middle=calm, distant=calm)
    made = controller.cycle(session)
    assert all(row.get("near", 0.0) == 0.0 for row in made.shares.values())
    assert made.spare["near"] == 0
    assert made.ceilings["middle"] == pytest.approx(5 / 20)
    assert Controls.from_json(traffic.read(deployment.client, []).controls).caps == {"middle": 5}


def test_the_controller_s_copy_never_replaces_a_newer_decision(
    deployment, session, controller, monkeypatch
):
    """An operator decides between the controller's read of the decisions and its write."""
    deployment.reports(home=WARM)
    read, reads = controls.read, []

    def operator_decides(conn):
        found = read(conn)
        reads.append(found)
        if len(reads) == 2:  # the first is for the table
            with monkeypatch.context() as patch:
                patch.setattr("app.store.traffic.controls.read", read)
                decide(deployment, "drained", "near", True)
            traffic.write_controls(deployment.client, lambda: read(conn))
        return found

    monkeypatch.setattr("app.store.traffic.controls.read", operator_decides)
    controller.cycle(session)
    assert [found.drained for found in reads[1:]] == [frozenset(), {"near"}]
    copied = Controls.from_json(traffic.read(deployment.client, []).controls)
    assert copied.drained == {"near"}


def test_a_pinned_table_keeps_its_shares_under_any_load_except_to_dead_regions(deployment, session):
    clock = [time.time()]
    controller = Controller(
        deployment.settings, deployment.store, deployment.redis, "c1", clock=lambda: clock[0]
    )

    def cycle(**by_region):
        clock[0] += 10
        deployment.reports(**{n: {"sent_at": clock[0]} | by_region.get(n, {}) for n in NAMES})
        return controller.cycle(session)

    first = cycle(home=WARM)
    assert first.shares["home"]["near"] > 0.0
    decide(deployment, "pinned", "table", True)
    held = cycle()
    assert held.shares == first.shares
    assert held.version == first.version + 1 and held.created_at > first.created_at
    assert cycle(near={"ready": 0, "busy": 0}).shares["home"] == {"home": 1.0}
    decide(deployment, "pinned", "table", False)
    assert cycle(middle={"ready": 0, "busy": 0}).shares["middle"] != {"middle": 1.0}


def test_the_capacity_of_a_region_that_comes_back_ramps_up(deployment):
    clock = [time.time()]
    controller = Controller(
        deployment.settings, deployment.store, deployment.redis, "c1", clock=lambda: clock[0]
    )

    def capacity(**values):
        clock[0] += 10
        deployment.sequence += 1
        text = report("near", deployment.sequence, sent_at=clock[0], **values).to_json()
        controller.take("near", text, clock[0])
        return controller.load(clock[0], Controls()).of("near").capacity

    whole = capacity()
    assert whole == pytest.approx(20 / 4)
    assert capacity(ready=0, busy=0) == 0.0
    back = [capacity() for _ in range(8)]
    assert back[0] == pytest.approx(RAMP_START * whole)
    assert back == sorted(back) and back[-1] == pytest.approx(whole)


def test_a_region_that_stays_silent_has_no_workers(deployment, session, controller):
    deployment.reports(near={"sent_at": time.time() - 20})
    assert controller.cycle(session).ready["near"] == 0


# --- reports --------------------------------------------------------------------------------------


def read(deployment, region="home"):
    return RegionReport.from_json(traffic.read_report(deployment.client, region))


def test_a_report_combines_redis_and_postgres(deployment):
    deployment.idle("home", 3)
    deployment.busy("home", 1)
    deployment.claims.claim(Pool("home", "noop"), ["a"])
    deployment.claims.announce(Pool("home", "noop"), "home-0", jobs=4, busy_ms=8000)
    half = DEMAND_WINDOW_S / 2 + SETTLE_S
    deployment.submit(6, age_s=half)
    deployment.submit(4, age_s=half, policy="strict", priority=2)
    deployment.submit(5, age_s=DEMAND_WINDOW_S + half)  # before the window
    traffic.count_refused(deployment.client, "home")
    Reporter(deployment.settings, deployment.store, deployment.redis).tick()
    found = read(deployment)
    assert (found.report.ready, found.report.busy) == (4, 2), "a claimed worker counts as busy"
    assert found.report.waiting == 15
    assert found.report.demand == pytest.approx(10 / DEMAND_WINDOW_S)
    assert found.report.pinned == pytest.approx(4 / DEMAND_WINDOW_S)
    assert found.classes == {"1": pytest.approx(0.6), "2": pytest.approx(0.4)}
    assert (found.report.service_s, found.measured) == (2.0, True)
    assert read(deployment, "near").report.service_s == deployment.settings.assumed_service_s


def test_refused_submits_are_demand(deployment):
    clock = [time.time()]
    reporter = Reporter(
        deployment.settings, deployment.store, deployment.redis, clock=lambda: clock[0]
    )
    reporter.tick()
    for _ in range(10):
        traffic.count_refused(deployment.client, "home")
    clock[0] += 5
    deployment.client.delete("stillmotion:reporter:home")
    reporter.tick()
    assert read(deployment).report.demand == pytest.approx(10 / 5)


def test_one_of_two_reporters_reports_and_a_flush_does_not_set_the_sequence_back(deployment):
    first, second = (
        Reporter(deployment.settings, deployment.store, deployment.redis) for _ in range(2)
    )
    first.tick()
    before = read(deployment)
    second.tick()
    assert read(deployment) == before
    deployment.client.flushall()
    second.tick()
    assert read(deployment).report.sequence > before.report.sequence
