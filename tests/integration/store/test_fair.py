"""Fair order across keys, and concurrency limits that make the excess wait."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text

from app.broker.connections import RegionRedis
from app.dispatcher.reaper import Reaper
from app.domain.errors import Transient
from app.store import keys
from app.store.job import attempts, fair, jobs, placing, slots
from app.store.job.placing import Offer
from app.store.traffic import demand
from tests.support import calls, make

QUEUE = {"profile": "noop", "region": "us-east", "priority": 1}


def stamped(store, owner, *, cost=1.0, **changes) -> UUID:
    """Submit a job as the API does."""
    priority = changes.get("priority", 1)
    with store.autocommit() as conn:
        stamp = fair.stamp(conn, owner, **QUEUE | {"priority": priority}, cost=cost)
    return make.submit(store, owner, vstart=stamp.vstart, cost=cost, **changes)


def place(store, count=1, region="us-east") -> list[UUID]:
    with store.begin() as tx:
        placed = make.place(tx, "noop", region, region, [f"t{n}" for n in range(count)])
    return [row.job_id for row in placed]


def in_order(store, count) -> list[UUID]:
    return [one for _ in range(count) for one in place(store)]


def test_a_key_with_20000_jobs_delays_nobody_elses_first(store):
    """The database copies the crowd's rows, with the virtual starts that stamping would give."""
    crowd, other = make.owner(store), make.owner(store)
    first = stamped(store, crowd)
    columns = [c.name for c in jobs.jobs.columns if c.name not in ("id", "vstart")]
    copied = ", ".join(columns)
    with store.begin() as tx:
        tx.execute(text("SET LOCAL statement_timeout = '60s'"))
        tx.execute(
            text(
                f"INSERT INTO jobs (id, vstart, {copied}) SELECT gen_random_uuid(), vstart + n,"
                f" {', '.join(f'jobs.{c}' for c in columns)}"
                " FROM jobs, generate_series(1, 20000) AS n WHERE jobs.id = :id"
            ),
            {"id": first},
        )
        tx.execute(text("UPDATE fair_marks SET finish = finish + 20000"))
    assert place(store) == [first]
    mine = stamped(store, other)
    with store.autocommit() as conn:
        assert jobs.ahead(conn, jobs.read(conn, mine)).jobs <= 1
    assert mine in in_order(store, 2)


def test_two_keys_take_turns_whoever_came_first(store):
    a, b = make.owner(store), make.owner(store)
    mine = {a: [stamped(store, a) for _ in range(6)], b: [stamped(store, b) for _ in range(3)]}
    order = in_order(store, 9)
    assert [one in mine[a] for one in order] == [True, False] * 3 + [True] * 3
    assert [one for one in order if one in mine[a]] == mine[a], "a key's own jobs stay in order"


def test_shares_are_of_work_not_of_jobs(store):
    a, b = make.owner(store), make.owner(store)
    long = [stamped(store, a, cost=3.0) for _ in range(2)]
    short = [stamped(store, b) for _ in range(6)]
    order = in_order(store, 8)
    assert order == [long[0], *short[:3], long[1], *short[3:]]


def test_one_job_at_a_time_gains_nothing_over_a_backlog(store):
    """A key that submits its next job when the last is placed takes turns with a waiting one."""
    many, one = make.owner(store), make.owner(store)
    backlog = [stamped(store, many) for _ in range(8)]
    stamped(store, one)
    taken = []
    for _ in range(8):
        [job] = place(store)
        taken.append(job in backlog)
        if job not in backlog:
            stamped(store, one)
    assert taken.count(True) == taken.count(False) == 4


def test_idle_workers_used_in_the_past_are_not_held_against_a_key(store):
    busy, fresh = make.owner(store), make.owner(store)
    for _ in range(50):
        stamped(store, busy)
        place(store)
    crowd = [stamped(store, fresh) for _ in range(20)]
    late = stamped(store, busy)
    assert late in in_order(store, 3)
    assert crowd


def test_classes_come_before_fairness(store):
    a, b = make.owner(store), make.owner(store)
    for _ in range(3):
        stamped(store, a, priority=0)
    low = stamped(store, b, priority=2)
    middle = stamped(store, b)
    assert in_order(store, 5)[-2:] == [middle, low]


def test_a_job_that_fails_over_to_another_region_joins_its_queue_at_the_head(store):
    """Virtual time differs there: the job must neither starve nor overtake by a day."""
    owner = make.owner(store)
    moved = stamped(store, owner)
    with store.begin() as tx:
        tx.execute(text("UPDATE jobs SET vstart = 5000"))
    waiting = [make.submit(store, owner, home_region="eu-west", vstart=v) for v in (100.0, 101.0)]
    [job] = place(store)
    with store.begin() as tx:
        make.begin(tx, job, 1)
        attempts.fail(
            tx, job, 1, Transient("x"), delay_s=0.0, next_region="eu-west", lease_token=make.LEASE
        )
    assert make.read(store, moved).vstart == 100.0
    assert set(place(store, 2, "eu-west")) == {moved, waiting[0]}


def test_queues_of_two_regions_take_turns_by_age_and_not_by_virtual_time(store):
    """Virtual times of two queues are not comparable: the lower must not starve the other."""
    owner = make.owner(store)
    late = make.submit(store, owner, vstart=900.0)
    elsewhere = make.submit(store, owner, home_region="eu-west", vstart=1.0)
    early = make.submit(store, owner, vstart=800.0)
    with store.autocommit() as conn:
        waiting = placing.peek(conn, "noop", ["us-east", "eu-west"], open_regions=[], limit=9)
    assert [job.job_id for job in waiting] == [elsewhere, early, late]


def test_jobs_waiting_for_a_slot_are_neither_seen_nor_placed(store, limited):
    waits = make.submit(store, limited[0], slot=False)
    with store.begin() as tx:
        assert placing.peek(tx, "noop", ["us-east"], open_regions=["us-east"], limit=9) == []
        assert placing.place(tx, "us-east", [Offer(waits)], ["t"]) == []
        assert demand.waiting(tx, ["us-east"], ["noop"]) == {"us-east": {"noop": (0, 0.0)}}


def test_a_job_that_comes_back_home_joins_that_queue_at_the_head(store):
    """The head is that of the job's own home, whatever the homes of the other waiting jobs."""
    owner = make.owner(store)
    back = make.submit(store, owner, home_region="eu-west", vstart=5000.0)
    make.submit(store, owner, home_region="eu-west", vstart=100.0)
    make.submit(store, owner, vstart=7.0)
    with store.begin() as tx:
        tx.execute(text("UPDATE jobs SET next_region = 'us-east' WHERE id = :id"), {"id": back})
        [placed] = placing.place(tx, "us-east", [Offer(back)], ["t"])
        assert attempts.take_back(tx, back, placed.fence, placed.token, "queue_unavailable")
    assert make.read(store, back).vstart == 100.0


@pytest.fixture
def limited(store):
    with store.begin() as tx:
        return keys.create(tx, "limited", max_concurrency=2)


@pytest.fixture
def client(app, limited):
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {limited[1]}"
    return client


def test_jobs_over_a_keys_concurrency_wait_and_are_not_refused(client, photo, store, settings):
    ids = []
    for _ in range(4):
        answer = calls.submit(client, photo, model="noop")
        assert answer.status_code == 202
        ids.append(UUID(answer.get_json()["id"]))
    assert [make.read(store, one).slot for one in ids] == [True, True, False, False]
    shown = client.get(f"/v1/jobs/{ids[2]}").get_json()
    assert (shown["state"], shown["queue"]["waiting_for"]) == ("queued", "key_concurrency")
    assert place(store, 4) == ids[:2], "no more than two, however many workers are idle"
    assert client.post(f"/v1/jobs/{ids[0]}/cancel").status_code == 200
    assert place(store, 4) == [ids[2]], "the cancel itself passes the slot on"


def test_the_reaper_passes_on_slots_of_jobs_that_ended_otherwise(store, limited, settings):
    owner = limited[0]
    running = make.submit(store, owner, slot=True)
    waits = make.submit(store, owner, slot=False)
    more = make.submit(store, owner, slot=False)
    [placed] = place(store)
    assert placed == running
    kicks = []
    reaper = Reaper(store, RegionRedis(settings), lambda: kicks.append(1))
    reaper.tick()
    assert make.read(store, waits).slot is True
    assert make.read(store, more).slot is False
    assert kicks
    make.backdate(store, waits, "queue_deadline")
    with store.begin() as tx:
        make.begin(tx, running, 1)
        attempts.finish(tx, running, 1, "outputs/a.mp4", 1, lease_token=make.LEASE)
    reaper.tick()
    assert make.read(store, more).slot is True


def test_submits_at_the_same_time_take_no_slot_twice(client, photo, store):
    def submit(_):
        return calls.submit(client.application.test_client(), photo, headers=headers).status_code

    headers = {"Authorization": client.environ_base["HTTP_AUTHORIZATION"]}
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(submit, range(6))) == {202}
    with store.autocommit() as conn:
        assert conn.execute(text("SELECT count(*) FROM jobs WHERE slot")).scalar_one() == 2


def test_raising_the_limit_frees_waiting_jobs(store, limited):
    owner = limited[0]
    for _ in range(3):
        make.submit(store, owner, slot=False)
    with store.begin() as tx:
        tx.execute(text("UPDATE api_keys SET max_concurrency = NULL"))
        assert slots.grant(tx, owner, None) == 3
