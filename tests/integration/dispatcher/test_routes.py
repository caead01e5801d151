"""Where a placer sends jobs: shares, rings, drains, caps, stale tables, retries."""

import time
from dataclasses import replace

import pytest

from app.broker import traffic
from app.broker.publish import Publisher
from app.dispatcher.placement.loop import Placer
from app.domain.routing.candidates import RoutingRequest, drawn
from app.domain.routing.controls import Controls
from app.domain.routing.topology import Pool
from app.store.traffic import controls
from app.traffic import Traffic
from tests.support import make
from tests.support.deployment import NAMES, table

HALF = {"home": 0.5, "near": 0.5}


@pytest.fixture
def make_placer(deployment):
    """A function that makes a dispatcher's placer; the test moves its clock."""
    parts = []

    def make_one(**changes):
        config = deployment.settings.model_copy(update=changes)
        publisher, facts = Publisher(config), Traffic(config, deployment.store, deployment.redis)
        parts.extend((facts, publisher))
        return Placer(
            config,
            deployment.store,
            publisher,
            facts,
            clock=lambda: clock[0],
            draw=lambda: 0.999,
        )

    clock = make_one.clock = [1000.0]
    yield make_one
    for part in parts:
        part.close()


def shares(**rows):
    return {name: {name: 1.0} for name in NAMES} | rows


def test_every_job_goes_where_its_own_draw_of_the_shares_sends_it(deployment, make_placer):
    deployment.publish(table(shares=shares(home=HALF)))
    deployment.reports()
    deployment.idle("home", 20)
    deployment.idle("near", 20)
    ids = deployment.submit(20)
    make_placer().place("noop")
    drawn_regions = [drawn(HALF, RoutingRequest(job, "home").draw) for job in ids]
    assert set(drawn_regions) == {"home", "near"}
    placed = dict(zip(ids, deployment.regions_of(ids), strict=True))
    # Each region has workers enough, so no job was refused and sent elsewhere.
    assert list(placed.values()) == drawn_regions


def test_a_small_home_uses_no_shares(deployment, make_placer):
    deployment.publish(table(shares=shares(home={"near": 1.0})))
    deployment.reports(home={"ready": 3, "busy": 0})
    deployment.idle("home", 3)
    deployment.idle("near", 3)
    ids = deployment.submit(3)
    make_placer().place("noop")
    assert deployment.regions_of(ids) == ["home"] * 3


def test_a_hot_home_overflows_to_its_near_ring_and_wider_only_with_refusals(
    deployment, make_placer
):
    deployment.publish(table())
    deployment.reports(home={"busy": 20})
    deployment.idle("near", 1)
    deployment.idle("middle", 5)
    deployment.idle("distant", 5)
    ids = deployment.submit(2)
    placer = make_placer()
    wait_s = placer.place("noop")
    assert deployment.regions_of(ids) == ["near", None], "middle is not near"
    assert deployment.hops(ids[0]) == [
        ("home", "refused", "no_idle_worker"),
        ("near", "placed", None),
    ]
    assert 0 < wait_s <= 0.1
    make_placer.clock[0] += 0.11
    placer.place("noop")
    assert deployment.regions_of(ids) == ["near", "middle"], "one round of refusals opens one ring"


def test_overflow_takes_no_more_than_the_spare_workers_of_a_region(deployment, make_placer):
    """Jobs in flight count: the other idle workers are meant for the region's own demand."""
    deployment.publish(table(spare=dict.fromkeys(NAMES, 2)))
    deployment.reports(home={"busy": 20}, near={"busy": 16})  # 0.9 x 20 - 16 = 2
    deployment.idle("near", 4)
    ids = deployment.submit(4, policy="ring")
    placer = make_placer()
    placer.place("noop")
    assert deployment.regions_of(ids).count("near") == 2
    placer.kick()
    placer.place("noop")
    assert deployment.regions_of(ids).count("near") == 2, (
        "the first two still hold the spare workers"
    )


def test_any_reaches_every_ring_at_once_and_strict_none(deployment, make_placer):
    deployment.publish(table(shares=shares(home={"near": 1.0})))
    deployment.reports(home={"busy": 20})
    deployment.idle("near", 1)
    deployment.idle("distant", 1)
    [strict] = deployment.submit(policy="strict")
    [listed] = deployment.submit(policy="any", allowed_regions=["home", "distant"])
    make_placer().place("noop")
    assert deployment.regions_of([strict, listed]) == [None, "distant"]
    assert deployment.claims.counts(Pool("near", "noop")) == (1, 0), "near was asked for no job"


def test_a_drained_region_gets_nothing_not_even_strict_jobs(deployment, make_placer):
    deployment.publish(table(shares=shares(home={"near": 1.0})))
    deployment.reports()
    traffic.write_controls(deployment.client, lambda: Controls(drained=frozenset({"near"})))
    deployment.idle("near", 2)
    deployment.idle("home", 1)
    [here] = deployment.submit()
    [there] = deployment.submit(policy="strict", home_region="near")
    make_placer().place("noop")
    assert deployment.regions_of([here, there]) == ["home", None]
    assert deployment.claims.counts(Pool("near", "noop")) == (2, 0)


def test_a_cap_counts_busy_claimed_and_the_other_profiles_workers(deployment, make_placer):
    traffic.write_controls(deployment.client, lambda: Controls(caps={"home": 3}))
    deployment.busy("home", 1)
    deployment.claims.announce(Pool("home", "motion-small"), "other", idle=False)
    deployment.idle("home", 4)
    deployment.idle("near", 4)
    ids = deployment.submit(3, policy="any")
    make_placer().place("noop")
    assert deployment.regions_of(ids).count("home") == 1, "two of the three are busy"
    away = next(job for job in ids if make.read(deployment.store, job).region == "near")
    assert ("home", "refused", "capped") in deployment.hops(away)


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [(5.0, "near"), (60.0, "home"), (600.0, "home")],
    ids=["fresh", "home first", "local"],
)
def test_the_older_the_table_the_less_it_counts(deployment, make_placer, age_s, expected):
    deployment.publish(table(age_s=age_s, shares=shares(home={"near": 1.0})))
    deployment.reports()
    deployment.idle("home", 1)
    deployment.idle("near", 1)
    ids = deployment.submit(1)
    make_placer().place("noop")
    assert deployment.regions_of(ids) == [expected]


def test_without_a_table_overflow_goes_outwards_a_few_at_a_time(deployment, make_placer):
    deployment.reports(home={"busy": 20, "demand": 5.0})  # a fifth of 5 x 4 s: four workers each
    for name in ("near", "middle", "distant"):
        deployment.idle(name, 6)
    ids = deployment.submit(14)
    make_placer().place("noop")
    placed = deployment.regions_of(ids)
    assert [placed.count(name) for name in ("home", *NAMES[1:])] == [0, 4, 4, 4]


def test_a_claim_s_result_shows_whether_another_try_is_worth_it(deployment, make_placer):
    """The second job is not offered to a pool that reported no worker left."""
    deployment.idle("home", 1)
    first = deployment.submit(1, policy="strict")
    placer = make_placer()
    placer.place("noop")
    second = deployment.submit(1, policy="strict")
    placer.kick()
    deployment.idle("home", 2)  # silently: no wake-up
    placer.place("noop")
    assert deployment.regions_of([*first, *second]) == ["home", None]
    placer.pool_idle("home/noop")
    placer.place("noop")
    assert deployment.regions_of(second) == ["home"]


def test_a_table_that_contradicts_itself_is_not_used(deployment, make_placer):
    good = table(shares=shares(home={"near": 1.0}))
    deployment.publish(good)
    facts = Traffic(deployment.settings, deployment.store, deployment.redis)
    facts.refresh()
    for bad in (
        replace(good, version=2, shares=shares(home={"near": 0.5})),
        replace(good, version=3, ready={**good.ready, "near": 0}),
        replace(good, version=4, load={**good.load, "near": 2.0}),
        replace(good, version=0),
    ):
        traffic.write_table(deployment.client, bad.to_json())
        facts.refresh()
        assert facts.current().table == good
    traffic.write_table(deployment.client, "{}")
    facts.refresh()
    assert facts.current().table == good
    facts.close()


def test_a_flushed_redis_gets_table_and_controls_back_from_postgres(deployment):
    deployment.publish(table())
    deployment.client.flushall()
    facts = Traffic(deployment.settings, deployment.store, deployment.redis)
    facts.refresh()
    assert facts.current().table.version == 1
    facts.close()
    copies = traffic.read(deployment.client, ["home"])
    assert copies.table is not None and copies.controls is not None


def test_restored_copies_never_replace_what_was_written_meanwhile(deployment, monkeypatch):
    """A process finds Redis empty and reads Postgres; then an operator decides."""
    deployment.publish(table())
    facts = Traffic(deployment.settings, deployment.store, deployment.redis)
    newer = table(version=2)
    read = controls.read
    drained = frozenset({"near"})

    def operator_decides(conn):
        found = read(conn)
        traffic.write_controls(
            deployment.client, lambda: Controls(drained=drained, drained_workers=frozenset({"w1"}))
        )
        traffic.write_table(deployment.client, newer.to_json())
        return found

    deployment.client.flushall()
    with monkeypatch.context() as patch:
        patch.setattr("app.traffic.controls.read", operator_decides)
        facts.refresh()
    facts.refresh()
    assert facts.current().controls.drained == drained
    assert facts.current().table == newer
    assert not deployment.claims.announce(Pool("home", "noop"), "w1", idle=True)
    facts.close()


def test_a_report_of_no_workers_is_forgotten_when_a_worker_appears(deployment, make_placer):
    deployment.publish(table())
    deployment.reports(home={"busy": 20}, near={"ready": 0, "busy": 0, "sent_at": time.time() - 3})
    deployment.idle("near", 1)
    ids = deployment.submit(1)
    placer = make_placer()
    placer.place("noop")
    assert deployment.regions_of(ids) == [None]
    placer.pool_idle("near/noop")
    placer.place("noop")
    assert deployment.regions_of(ids) == ["near"]
