"""One dispatcher placing jobs with real claims: where they go, and what it records."""

import pytest
import redis

from app.broker.claims import Claims
from app.broker.connections import RegionRedis, connect
from app.broker.publish import Publisher
from app.dispatcher.placement.loop import Placer
from app.dispatcher.reaper import Reaper
from app.domain.job.lease import BEGIN_WITHIN_S
from app.domain.routing.pacing import PROBE_BASE_S
from app.domain.routing.topology import Pool
from app.store.job import placing
from app.store.reports import overview
from app.traffic import Traffic
from tests.support import make, services

EAST, WEST, EU = (Pool(region, "noop") for region in ("us-east", "us-west", "eu-west"))


@pytest.fixture
def owner(store):
    return make.owner(store)


@pytest.fixture
def claims(settings):
    with connect(settings.redis_url, 2.0) as client:
        yield Claims(client)


@pytest.fixture
def make_placer(settings, store):
    """A function that makes a dispatcher's placer with a stopped clock."""
    publishers = []

    def make_one(config=settings):
        publishers.append(Publisher(config))
        traffic.append(Traffic(config, store, RegionRedis(config)))
        return Placer(
            config,
            store,
            publishers[-1],
            traffic[-1],
            clock=lambda: clock[0],
            draw=lambda: 0.999,
        )

    traffic = []
    clock = make_one.clock = [1000.0]
    yield make_one
    for part in (*publishers, *traffic):
        part.close()


def queued(client, pool):
    return client.llen(pool.queue)


def test_home_is_first_and_overflow_goes_to_the_nearest_idle_region(
    store, owner, claims, make_placer
):
    first, second = (make.submit(store, owner) for _ in range(2))
    claims.announce(EAST, "e1")
    claims.announce(EU, "x1")
    claims.announce(WEST, "w1")
    make_placer().place("noop")
    regions = {make.read(store, job).region for job in (first, second)}
    assert regions == {"us-east", "us-west"}, "eu-west is farther"
    away = next(j for j in (first, second) if make.read(store, j).region == "us-west")
    [attempt] = make.attempts_of(store, away)
    assert [(hop["region"], hop["outcome"], hop.get("reason")) for hop in attempt.hops] == [
        ("us-east", "refused", "no_idle_worker"),
        ("us-west", "placed", None),
    ]


def test_no_more_jobs_are_placed_than_workers_are_idle(store, owner, claims, make_placer, settings):
    for _ in range(5):
        make.submit(store, owner)
    claims.announce(EAST, "e1")
    claims.announce(WEST, "w1")
    first, second = make_placer(), make_placer()
    first.place("noop")
    second.place("noop")
    with connect(settings.redis_url, 2.0) as client:
        assert queued(client, EAST) == queued(client, WEST) == 1
    with store.autocommit() as conn:
        live = overview.live(conn)
    assert sum(n for (state, _), n in live.items() if state == "starting") == 2
    assert sum(n for (state, _), n in live.items() if state == "queued") == 3


def test_the_head_of_a_long_queue_is_read_again_only_when_it_runs_low(
    store, owner, claims, make_placer, settings, monkeypatch
):
    """With one worker draining a backlog, reading its head for every job is half of the work."""
    placer = make_placer(settings.model_copy(update={"place_batch": 4}))
    order = [make.submit(store, owner) for _ in range(7)]
    reads, peek = [], placing.peek
    monkeypatch.setattr(placing, "peek", lambda *a, **b: reads.append(a) or peek(*a, **b))
    for number in range(7):
        claims.announce(EAST, f"e{number}")
        placer.pool_idle(str(EAST))
        while placer.place("noop") == 0.0:
            pass
        placed = [job for job in order if make.read(store, job).state != "queued"]
        assert placed == order[: number + 1], "one job per worker, in order"
    assert len(reads) <= 4, "fewer than one per job"


def test_news_of_a_profile_has_only_its_queues_read(store, owner, make_placer, monkeypatch):
    reads, peek = [], placing.peek
    monkeypatch.setattr(placing, "peek", lambda *a, **b: reads.append(a[1]) or peek(*a, **b))
    placer = make_placer()

    def read_after(*profile):
        """The profiles whose queues are read after this news."""
        placer.kick(*profile)
        reads.clear()
        for name in ("motion-small", "noop"):
            placer.place(name)
        return reads

    assert read_after() == ["motion-small", "noop"]
    assert read_after("noop") == ["noop"]
    assert read_after("of another release") == []
    placer.pool_idle(str(EAST))
    assert read_after("motion-small") == ["motion-small", "noop"]


def test_strict_jobs_and_allow_lists_stay_where_they_must(store, owner, claims, make_placer):
    strict = make.submit(store, owner, policy="strict")
    kept = make.submit(store, owner, allowed_regions=["us-east", "eu-west"])
    claims.announce(WEST, "w1")
    placer = make_placer()
    placer.place("noop")
    assert make.read(store, strict).state == make.read(store, kept).state == "queued"
    assert claims.counts(WEST) == (1, 0), "an unused claim is given back"
    claims.announce(EU, "x1")
    make_placer().place("noop")
    assert make.read(store, strict).state == "queued"
    assert make.read(store, kept).region == "eu-west", "us-west is nearer and idle, but not allowed"


def test_a_pool_that_refused_is_probed_again_after_its_backoff_or_when_a_worker_is_idle(
    store, owner, claims, make_placer
):
    job = make.submit(store, owner, policy="strict")
    placer = make_placer()
    wait_s = placer.place("noop")
    assert 0 < wait_s <= PROBE_BASE_S
    claims.announce(EAST, "e1")
    placer.place("noop")
    assert make.read(store, job).state == "queued", "the pool's timer is still running"
    placer.pool_idle(str(EAST))
    placer.place("noop")
    assert make.read(store, job).state == "starting"


def test_refusals_write_nothing_to_the_job(store, owner, make_placer):
    job = make.submit(store, owner)
    before = make.read(store, job)
    placer = make_placer()
    for _ in range(5):
        placer.place("noop")
        make_placer.clock[0] += 5
    assert make.read(store, job) == before


def test_an_unreachable_broker_undoes_all_placements_at_once(
    store, owner, claims, make_placer, change
):
    waiting = [make.submit(store, owner, policy="strict") for _ in range(2)]
    for worker in ("e1", "e2"):
        claims.announce(EAST, worker)
    dead = change(broker_url=f"redis://127.0.0.1:{services.free_port()}/0")
    make_placer(dead).place("noop")
    for job in waiting:
        row = make.read(store, job)
        assert (row.state, row.fence, row.begun) == ("queued", 1, 0)
        [attempt] = make.attempts_of(store, job)
        assert (attempt.outcome, attempt.error_code) == ("not_begun", "broker_unavailable")
    assert claims.counts(EAST) == (2, 0)


def test_every_message_of_one_placement_is_published(store, owner, claims, make_placer, settings):
    for n in range(5):
        make.submit(store, owner)
        claims.announce(EAST, f"e{n}")
    make_placer().place("noop")
    with connect(settings.redis_url, 2.0) as client:
        assert queued(client, EAST) == 5


def test_a_region_whose_redis_is_down_is_unknown_and_the_next_one_is_used(
    store, owner, make_placer, change, settings, tmp_path
):
    """eu-west has its own Redis, which answers; us-east's does not."""
    dead = services.free_port()
    regions = tmp_path / "regions.toml"
    regions.write_text(
        f"""
[[region]]
name = "us-east"
redis_url = "redis://127.0.0.1:{dead}/0"
rtt_ms = {{ eu-west = 80 }}
[[region]]
name = "eu-west"
rtt_ms = {{ us-east = 80 }}
"""
    )
    config = type(settings)(**settings.model_dump() | {"regions_file": regions})
    job = make.submit(store, owner)
    with connect(settings.redis_url, 2.0) as client:
        Claims(client).announce(EU, "x1")
    make_placer(config).place("noop")
    assert make.read(store, job).region == "eu-west"
    [attempt] = make.attempts_of(store, job)
    assert attempt.hops[0]["reason"] == "region_unknown"


def test_expired_entries_are_neither_idle_nor_claimed(claims, settings):
    claims.announce(EAST, "e1")
    assert claims.claim(EAST, ["a", "b"]).granted == ["a"]
    assert claims.claim(EAST, ["c"]).granted == []
    with connect(settings.redis_url, 2.0) as client:
        client.zadd("{us-east/noop}:idle", {"e1": 1})
        client.zadd("{us-east/noop}:claims", {"a": 1})
    assert claims.claim(EAST, ["d"]).granted == []
    claims.announce(EAST, "e1")
    assert claims.claim(EAST, ["e"]).granted == ["e"]


def test_a_pool_wants_workers_only_while_jobs_are_left_and_nobody_is_idle(claims):
    assert not claims.wanted(EAST)
    claims.announce(EAST, "e1")
    assert claims.claim(EAST, ["a", "b"]).granted == ["a"]
    assert claims.wanted(EAST)
    claims.announce(EAST, "e2")
    assert not claims.wanted(EAST), "e2 is idle"
    assert claims.claim(EAST, ["b"]).granted == ["b"]
    assert not claims.wanted(EAST), "no job is left"
    claims.announce(EAST, "e3")
    assert claims.claim(EAST, ["c"], cap=2).granted == []
    assert not claims.wanted(EAST), "an operator's cap is why"


def test_a_placement_that_nobody_began_gives_its_claim_back(
    store, owner, claims, make_placer, settings
):
    """Otherwise the pool's only idle worker would wait for the claim's end, more than 3 s."""
    job = make.submit(store, owner, policy="strict")
    claims.announce(EAST, "e1")
    placer = make_placer()
    placer.place("noop")
    assert claims.counts(EAST) == (1, 1)
    make.backdate(store, job, "placed_at", BEGIN_WITHIN_S + 0.1)
    Reaper(store, RegionRedis(settings), placer.kick).tick()
    assert claims.counts(EAST) == (1, 0)
    make_placer.clock[0] += PROBE_BASE_S  # or sooner, if the wake-up arrives
    placer.place("noop")
    assert make.read(store, job).fence == 2


def test_a_begun_attempt_leaves_neither_claim_nor_idle_worker(claims):
    claims.announce(EAST, "e1")
    [token] = claims.claim(EAST, ["a"]).granted
    claims.begun(EAST, "e1", token)
    assert claims.counts(EAST) == (0, 0)


def test_a_dead_redis_raises_what_the_dispatcher_catches():
    dead = connect(f"redis://127.0.0.1:{services.free_port()}/0", 0.2)
    with dead as client, pytest.raises(redis.RedisError):
        Claims(client).claim(EAST, ["a"])
