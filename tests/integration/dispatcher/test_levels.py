"""Jobs that need a level: only workers that speak it are offered them, on every path."""

import pytest
from sqlalchemy import text

from app.broker import progress
from app.broker.claims import Claims
from app.broker.connections import RegionRedis, connect
from app.broker.publish import Publisher
from app.dispatcher.placement.loop import Placer
from app.dispatcher.reaper import Reaper
from app.domain.job.lease import BEGIN_WITHIN_S
from app.domain.routing.topology import Pool
from app.store.job import attempts, placing
from app.store.models import NEVER
from app.traffic import Traffic
from tests.support import make

EAST, WEST = (Pool(region, "noop") for region in ("us-east", "us-west"))
EAST_1, WEST_1 = (Pool(region, "noop", 1) for region in ("us-east", "us-west"))


@pytest.fixture
def owner(store):
    return make.owner(store)


@pytest.fixture
def client(settings):
    with connect(settings.redis_url, 2.0) as client:
        yield client


@pytest.fixture
def claims(client):
    return Claims(client)


@pytest.fixture
def placer(settings, store):
    publisher, traffic = Publisher(settings), Traffic(settings, store, RegionRedis(settings))
    yield Placer(settings, store, publisher, traffic, draw=lambda: 0.999)
    publisher.close()
    traffic.close()


def old(claims, pool, worker):
    claims.announce(pool, worker, speaks=0)


def state(store, job):
    return make.read(store, job).state


def test_a_job_that_needs_a_level_passes_old_workers_and_overflows_to_one_that_speaks_it(
    store, owner, claims, client, placer
):
    old(claims, EAST, "e-old")
    claims.announce(WEST, "w-new", speaks=1)
    needs, plain = make.submit(store, owner, needs=1), make.submit(store, owner)
    placer.place("noop")
    assert make.read(store, needs).region == "us-west"
    assert make.read(store, plain).region == "us-east"
    lengths = {each.queue: client.llen(each.queue) for each in (EAST, EAST_1, WEST, WEST_1)}
    assert lengths == {EAST.queue: 1, EAST_1.queue: 0, WEST.queue: 0, WEST_1.queue: 1}
    assert claims.counts(WEST) == claims.counts(WEST_1) == (1, 1), "no plain job may count on it"


def test_it_waits_while_nobody_speaks_its_level_and_is_placed_once_somebody_does(
    store, owner, claims, placer
):
    for n in range(3):
        old(claims, EAST, f"e{n}")
        old(claims, WEST, f"w{n}")
    job = make.submit(store, owner, needs=1)
    placer.place("noop")
    assert state(store, job) == "queued"
    assert claims.announce(EAST, "e-new", speaks=1), "the word that makes dispatchers look"
    placer.pool_idle(str(EAST))
    placer.place("noop")
    assert state(store, job) == "starting"


def test_jobs_that_nobody_can_do_hide_none_that_somebody_can(
    store, owner, claims, placer, settings
):
    for _ in range(settings.place_batch + 5):
        make.submit(store, owner, needs=2)
    plain = make.submit(store, owner)
    claims.announce(EAST, "e1")
    placer.place("noop")
    assert state(store, plain) == "starting"


def test_a_new_worker_takes_old_jobs_and_its_busy_entry_is_gone_at_every_level(
    store, owner, client, claims, placer
):
    """And those who watch the job are told."""
    claims.announce(EAST, "e1", speaks=1)
    job = make.submit(store, owner)
    placer.place("noop")
    assert state(store, job) == "starting"
    [attempt] = make.attempts_of(store, job)
    with client.pubsub() as watcher:
        watcher.subscribe(progress.channel(job))
        assert watcher.get_message(timeout=10)["type"] == "subscribe"
        claims.begun(EAST, "e1", attempt.token, job)
        assert watcher.get_message(timeout=10)["data"] == progress.CHANGED
    assert claims.counts(EAST) == claims.counts(EAST_1) == (0, 0)
    assert claims.look(EAST_1).ready == 1
    claims.withdraw(EAST, "e1")
    assert claims.look(EAST_1).ready == claims.look(EAST).ready == 0


def test_a_cap_holds_for_every_level(claims):
    for n in range(3):
        claims.announce(EAST, f"e{n}", speaks=1)
    granted = claims.claim(EAST_1, ["a", "b", "c"], cap=2)
    assert (granted.granted, granted.capped) == (["a", "b"], True)
    assert claims.claim(EAST, ["d"], cap=2).granted == []


def test_a_placement_that_nobody_begins_gives_its_claim_back_at_its_level(
    settings, store, owner, claims, placer
):
    claims.announce(EAST, "e1", speaks=1)
    job = make.submit(store, owner, needs=1)
    placer.place("noop")
    make.backdate(store, job, "placed_at", BEGIN_WITHIN_S + 1)
    Reaper(store, RegionRedis(settings), lambda: None).tick()
    assert state(store, job) == "queued"
    assert claims.counts(EAST)[1] == claims.counts(EAST_1)[1] == 0


def test_no_worker_begins_a_job_above_its_level(store, owner):
    job = make.submit(store, owner, needs=2)
    with store.begin() as tx:
        [placed] = placing.place(tx, "us-east", [placing.Offer(job)], ["token"])

    def begin(speaks):
        with store.begin() as tx:
            return attempts.begin(
                tx,
                job,
                placed.fence,
                worker="w",
                attempt_limit_s=60,
                lease_token="lease",
                region="us-east",
                speaks=speaks,
            )

    assert begin(1) is None
    assert begin(2) is not None


# How release 0.1.0 finds waiting jobs.
WAITING_0 = text(
    "SELECT id FROM jobs WHERE '' || state = 'queued' AND not_before IS NULL AND slot IS NOT FALSE"
)
REQUEUE_0 = text("UPDATE jobs SET state = 'queued', not_before = NULL WHERE id = :id")
BACKS_OFF = text("UPDATE jobs SET not_before = now() WHERE id = :id")


def test_dispatchers_that_know_no_levels_do_not_see_such_jobs(store, owner, settings):
    plain, needs = make.submit(store, owner), make.submit(store, owner, needs=1)

    def run(statement):
        with store.begin() as tx:
            return tx.execute(statement, {"id": needs})

    def seen_by_the_last_release():
        return [row.id for row in run(WAITING_0)]

    assert seen_by_the_last_release() == [plain]
    with store.begin() as tx:
        assert placing.place(tx, "us-east", [placing.Offer(needs)], ["token"])
    assert make.read(store, needs).not_before is None
    run(REQUEUE_0)
    assert seen_by_the_last_release() == [plain]
    run(BACKS_OFF)
    Reaper(store, RegionRedis(settings), lambda: None).tick()
    assert make.read(store, needs).not_before == NEVER, "its backoff is over, and it waits"
    assert seen_by_the_last_release() == [plain]
