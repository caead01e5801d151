"""Retries and the budget that keeps them from crowding out fresh jobs."""

from math import ceil

import pytest
from sqlalchemy import text

from app.broker.publish import Publisher
from app.dispatcher.placement.loop import Placer
from app.domain.routing.topology import Pool
from app.traffic import Traffic
from tests.support.deployment import table

HOME = Pool("home", "noop")


@pytest.fixture
def make_placer(deployment):
    """A function that makes a dispatcher's placer; the test moves its clock."""
    parts = []

    def make_one(**changes):
        config = deployment.settings.model_copy(update=changes)
        publisher, traffic = Publisher(config), Traffic(config, deployment.store, deployment.redis)
        parts.extend((traffic, publisher))
        return Placer(
            config, deployment.store, publisher, traffic, clock=lambda: clock[0], draw=lambda: 0.5
        )

    clock = make_one.clock = [1000.0]
    yield make_one
    for part in parts:
        part.close()


def submit_retries(deployment, count):
    """Strict jobs whose first attempt failed a while ago."""
    ids = deployment.submit(count, age_s=60.0, policy="strict")
    with deployment.store.begin() as tx:
        tx.execute(text("UPDATE jobs SET begun = 1, fence = 1 WHERE id = ANY(:ids)"), {"ids": ids})
    return ids


def finish_all(deployment):
    """Every placed job succeeds at once. Returns their ids, retries first."""
    with deployment.store.begin() as tx:
        rows = tx.execute(
            text(
                "UPDATE jobs SET state = 'processing', lease_until = now() + interval '30 s',"
                " attempt_until = now() + interval '60 s', begun = begun + 1"
                " WHERE state = 'starting' RETURNING id, begun"
            )
        ).fetchall()
        tx.execute(
            text(
                "UPDATE jobs SET state = 'succeeded', lease_until = NULL, attempt_until = NULL,"
                " finished_at = now(), output_key = 'outputs/x.mp4', output_bytes = 1"
                " WHERE state = 'processing'"
            )
        )
    for name in deployment.settings.topology.names:
        deployment.client.delete(f"{{{name}/noop}}:claims")
    return [row.id for row in sorted(rows, key=lambda row: -row.begun)]


def place_a_round(placer, clock, workers_of):
    """Place for one second with these workers idle."""
    for pool in workers_of:
        placer.pool_idle(str(pool))
    while placer.place("noop") == 0.0:
        pass
    clock[0] += 1.0


def test_a_retry_over_the_budget_yields_to_fresh_jobs(deployment, make_placer):
    deployment.publish(table())
    deployment.reports()
    deployment.idle("home", 2)
    retries = submit_retries(deployment, 3)
    [fresh] = deployment.submit(1, policy="strict")
    make_placer(retry_floor=1).place("noop")
    assert deployment.regions_of([*retries, fresh]) == ["home", None, None, "home"]


def test_a_retry_over_the_budget_takes_a_worker_that_nobody_else_wants(deployment, make_placer):
    deployment.publish(table())
    deployment.reports()
    deployment.idle("home", 6)
    retries = submit_retries(deployment, 3)
    [fresh] = deployment.submit(1, policy="strict")
    make_placer(retry_floor=1).place("noop")
    assert deployment.regions_of([*retries, fresh]) == ["home"] * 4
    assert deployment.claims.counts(HOME) == (6, 4), "unused claims went back"


def test_retries_that_fill_the_head_of_a_queue_do_not_hide_fresh_jobs(deployment, make_placer):
    """70 jobs failed once, as after a storage hiccup; 10 fresh jobs follow, for two workers."""
    deployment.publish(table())
    deployment.reports()
    deployment.idle("home", 2)
    retries = submit_retries(deployment, 70)
    fresh = deployment.submit(10, policy="strict")
    placer = make_placer()
    done = []
    for _ in range(7):
        place_a_round(placer, make_placer.clock, [HOME])
        done += finish_all(deployment)
    assert set(fresh) < set(done)
    assert len(set(retries) & set(done)) == 4, "the budget's three, then an idle worker's one"
    while len(done) < 80:
        place_a_round(placer, make_placer.clock, [HOME])
        finished = finish_all(deployment)
        assert len(finished) == 2, "no worker stays idle while retries wait"
        done += finished


def test_the_backlog_of_an_outage_is_gone_within_one_and_a_half_times_its_work(
    deployment, make_placer
):
    """64 workers of two regions; a 30 s outage has failed 256 jobs, and 192 more are waiting."""
    deployment.publish(table())
    deployment.reports()
    pools = [HOME, Pool("near", "noop")]
    for pool in pools:
        deployment.idle(pool.region, 32)
    waiting = set(submit_retries(deployment, 256)) | set(deployment.submit(192))
    with deployment.store.begin() as tx:
        # A failed attempt sends its job to another region first.
        tx.execute(text("UPDATE jobs SET policy = 'any', next_region = 'near' WHERE begun = 1"))
    placer = make_placer()
    rounds = 0
    while waiting and rounds < 100:
        place_a_round(placer, make_placer.clock, pools)
        waiting -= set(finish_all(deployment))
        rounds += 1
    assert rounds <= 1.5 * ceil(448 / 64)
