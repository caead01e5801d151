"""Positions and estimates: limits of keys, sizes of jobs, and what is not known."""

import io
import time

import pytest

from app.broker.claims import Claims
from app.config.profiles_file import PROFILES
from app.domain.job import levels
from app.domain.job.cost import cost_units
from app.domain.routing.topology import Pool
from app.store import keys
from app.store.job import attempts
from tests.support import calls, make, services

SERVICE_S = 3.0
SMALL = {"model": "noop", "frames": 8, "size": 64}
DOUBLE = SMALL | {"frames": 16}


@pytest.fixture
def login(app, store):
    """A function that makes a client of the API with a key of its own."""

    def make_client(**limits):
        with store.begin() as tx:
            _, plain = keys.create(tx, "any", **limits)
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
        return client

    return make_client


@pytest.fixture
def past(store):
    """A function that leaves a finished job behind: what the service learns from.

    Behind its back, because it looks every two seconds only.
    """
    owner = make.owner(store)

    def finish(frames=8):
        cost = cost_units(PROFILES["noop"], frames=frames, size=64, steps=1)
        job_id = make.submit(store, owner, frames=frames, cost=cost)
        place_and_begin(store)
        with store.begin() as tx:
            attempts.finish(tx, job_id, 1, f"outputs/{job_id}.mp4", 1, lease_token=make.LEASE)
            took = "started_at = finished_at - make_interval(secs => %s)"
            tx.exec_driver_sql(f"UPDATE jobs SET {took} WHERE id = %s", (SERVICE_S, job_id))
            # Each on a worker of its own: they overlap.
            of = "UPDATE attempts SET worker = job_id WHERE job_id = %s"
            tx.exec_driver_sql(of, (job_id,))

    return finish


def idle(client, count):
    """Idle workers for the whole test; a real entry must be renewed within 3 s."""
    workers = {f"w{n}": int((time.time() + 600) * 1000) for n in range(count)}
    for name in ("idle", "ready"):
        client.zadd(f"{{{Pool('us-east', 'noop')}}}:{name}", workers)


def place_and_begin(store):
    with store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["t"])
        make.begin(tx, placed.job_id, placed.fence)


def shown(client, job):
    return client.get(f"/v1/jobs/{job['id']}").get_json()


def test_jobs_beyond_a_keys_concurrency_show_their_turn(login, store, photo, past):
    past()
    limited, other = login(max_concurrency=1), login()
    made = [calls.submit(limited, photo, **SMALL).get_json() for _ in range(12)]
    place_and_begin(store)
    positions = [shown(limited, job)["queue"]["position"] for job in made[1:]]
    assert positions == list(range(11))
    last = shown(limited, made[-1])
    assert last["queue"]["waiting_for"] == "key_concurrency"
    assert last["queue"]["wait_seconds"] == pytest.approx(11 * SERVICE_S, rel=0.1)
    assert last["eta_seconds"] == pytest.approx(12 * SERVICE_S, rel=0.1)
    assert shown(other, calls.submit(other, photo, **SMALL).get_json())["queue"]["position"] == 0


def test_an_estimate_counts_the_callers_own_jobs(login, store, photo, past, client):
    past()
    idle(client, 4)  # workers are not what the limited key waits for
    limited = login(max_concurrency=2)
    for _ in range(6):
        calls.submit(limited, photo, **SMALL)
    dry = limited.post(
        "/v1/jobs?dry_run=1", data={"image": (io.BytesIO(photo), "a.jpg"), **SMALL}
    ).get_json()
    assert dry["queue"]["position"] == 4 + 2, "two hold a slot and wait for a worker"
    assert dry["queue"]["wait_seconds"] == pytest.approx(3 * SERVICE_S, rel=0.1)
    seventh = calls.submit(limited, photo, **SMALL).get_json()
    assert seventh["metrics"]["predicted"] == pytest.approx(4 * SERVICE_S, rel=0.1)
    free = login(max_concurrency=2)
    assert calls.submit(free, photo, **SMALL).get_json()["metrics"]["predicted"] < 2 * SERVICE_S


def test_a_larger_clip_is_expected_to_take_longer(api, store, photo, past, client):
    past()
    idle(client, 1)
    predicted = [
        calls.submit(api, photo, **fields).get_json()["metrics"]["predicted"]
        for fields in (SMALL, DOUBLE, SMALL | {"size": 128})
    ]
    # Each waits for those before it, which have their own sizes.
    assert predicted == pytest.approx([3.0, 3.0 + 4.5, 3.0 + 4.5 + 7.5], rel=0.01)


def test_sizes_are_learned_and_not_assumed(api, store, photo, past, client):
    """Here a clip of twice the frames takes just as long; the next estimate knows it."""
    for _ in range(6):
        past()
        past(frames=16)
    idle(client, 1)
    job = calls.submit(api, photo, **DOUBLE).get_json()
    assert job["metrics"]["predicted"] == pytest.approx(SERVICE_S, rel=0.1)


def test_without_a_finished_job_nothing_is_claimed(api, photo, client):
    idle(client, 1)
    job = calls.submit(api, photo, **SMALL).get_json()
    assert job["metrics"]["predicted"] is None
    assert shown(api, job)["eta_seconds"] is None


def test_a_submit_says_that_no_worker_serves_its_model(api, photo, client):
    sent = calls.submit(api, photo, **SMALL)
    assert sent.headers["Stillmotion-Notice"] == "no worker serves noop now; the job waits for one"
    assert shown(api, sent.get_json())["queue"]["workers"] == 0
    dry = {"image": (io.BytesIO(photo), "a.jpg"), **SMALL}
    assert api.post("/v1/jobs?dry_run=1", data=dry).get_json()["queue"]["workers"] == 0


def test_a_submit_says_nothing_if_a_worker_serves_its_model(api, photo, client):
    idle(client, 2)
    sent = calls.submit(api, photo, **SMALL)
    assert "Stillmotion-Notice" not in sent.headers
    assert shown(api, sent.get_json())["queue"]["workers"] == 2
    elsewhere = calls.submit(api, photo, **SMALL, region="eu-west", policy="strict")
    assert shown(api, elsewhere.get_json())["queue"]["workers"] == 0
    assert "no worker serves noop" in elsewhere.headers["Stillmotion-Notice"]


def test_workers_that_would_ignore_a_field_do_not_count(api, photo, client, monkeypatch):
    """As while the workers are older than the API: the field has a level that none speaks."""
    idle(client, 2)
    monkeypatch.setattr(levels, "NEEDS", {"loop": 1})
    sent = calls.submit(api, photo, **SMALL, loop=True)
    assert sent.headers["Stillmotion-Notice"] == (
        "no worker serves all that this job asks of noop now; the job waits for one"
    )
    queue = shown(api, sent.get_json())["queue"]
    assert (queue["workers"], queue["waiting_for"]) == (0, "worker")
    assert shown(api, calls.submit(api, photo, **SMALL).get_json())["queue"]["workers"] == 2
    dry = {"image": (io.BytesIO(photo), "a.jpg"), **SMALL, "loop": "true"}
    assert api.post("/v1/jobs?dry_run=1", data=dry).get_json()["queue"]["workers"] == 0
    Claims(client).announce(Pool("us-east", "noop"), "new", speaks=1)
    services.wait_until(lambda: shown(api, sent.get_json())["queue"]["workers"] == 1)
