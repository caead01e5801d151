"""The event stream of a job: order, resuming, speed, and many clients at once."""

import contextlib
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx
import pytest

from app.broker import progress
from app.broker.progress import Step
from app.domain.errors import Transient
from app.store import keys
from app.store.job import attempts
from tests.integration.api.test_jobs import finish, place_and_begin
from tests.support import calls, make, services, sse
from tests.support.fleet import fleet as make_fleet


def states(events):
    return [event.data["state"] for event in events if event.name == "status"]


def steps(events):
    return [event.data["step"] for event in events if event.name == "progress"]


def parse(answer):
    return list(sse.events(iter(answer.get_data(as_text=True).split("\n"))))


def lose_and_finish(store, job_id):
    """Fail one attempt, then let the next succeed."""
    placed = place_and_begin(store, job_id)
    with store.begin() as tx:
        error = Transient("x", code="out_of_memory")
        attempts.fail(
            tx, placed.job_id, 1, error, delay_s=0.0, next_region="us-east", lease_token=make.LEASE
        )
    finish(store, place_and_begin(store, job_id))


def test_the_stream_of_an_ended_job_replays_its_whole_life_and_ends(api, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    lose_and_finish(store, job_id)
    answer = api.get(f"/v1/jobs/{job_id}/events")
    assert answer.mimetype == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    found = parse(answer)
    assert states(found) == [
        "queued", "starting", "processing", "queued", "starting", "processing", "succeeded",
    ]  # fmt: skip
    assert [event.data["attempt"] for event in found[:-1]] == [None, 1, 1, 1, 2, 2, 2]
    assert found[3].data["reason"] == "out_of_memory"
    assert found[-1].name == "completed"
    assert found[-1].data["state"] == "succeeded"
    assert found[-1].data["output"]["url"]


def test_last_event_id_resumes_after_any_event_and_nothing_is_repeated_or_lost(api, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    lose_and_finish(store, job_id)
    url = f"/v1/jobs/{job_id}/events"
    whole = parse(api.get(url))
    for n, event in enumerate(whole[:-1]):
        if event.id is None:
            continue
        rest = parse(api.get(url, headers={"Last-Event-ID": event.id}))
        assert [(e.name, e.id) for e in rest] == [(e.name, e.id) for e in whole[n + 1 :]]
    done = api.get(url, headers={"Last-Event-ID": whole[-1].id})
    assert (done.status_code, done.data) == (204, b"")


@pytest.mark.parametrize("given", ["x", "1.2", "1.9.0", "-1.0.0", "1.2.3.4"])
def test_an_invalid_last_event_id_is_refused(api, photo, given):
    job_id = calls.submit(api, photo).get_json()["id"]
    answer = api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": given})
    calls.assert_problem(answer, 400, "invalid_last_event_id")


@pytest.mark.parametrize("given", ["5.1.0", "9.4.0", "999999999.4.999999999"])
def test_an_id_that_an_ended_job_never_reached_counts_as_none(api, photo, store, given):
    job_id = calls.submit(api, photo).get_json()["id"]
    lose_and_finish(store, job_id)
    url = f"/v1/jobs/{job_id}/events"
    whole = parse(api.get(url))
    again = parse(api.get(url, headers={"Last-Event-ID": given}))
    assert [(e.name, e.id) for e in again] == [(e.name, e.id) for e in whole]


@pytest.mark.parametrize("given", ["0.4.0", "1.2.999", "1.4.0", "5.1.0", "9.4.0"])
def test_no_id_keeps_a_running_jobs_stream_from_its_end(api, photo, store, given):
    """The job ends while its stream is open."""
    job_id = calls.submit(api, photo).get_json()["id"]
    placed = place_and_begin(store, job_id)
    stream = api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": given}, buffered=False)
    timer = threading.Timer(0.5, finish, (store, placed))
    timer.start()
    with contextlib.closing(stream):
        lines = (line for chunk in stream.response for line in chunk.decode().split("\n")[:-1])
        found = list(sse.events(lines))
    timer.join()
    assert [event.name for event in found[-2:]] == ["status", "completed"]
    assert states(found)[-1] == "succeeded"
    expected = [] if given == "0.4.0" else ["queued"]
    assert states(found) == [*expected, "starting", "processing", "succeeded"]


def test_the_last_event_may_be_named_in_the_query(api, photo, store):
    """As EventSource polyfills do that send an Authorization header."""
    job_id = calls.submit(api, photo).get_json()["id"]
    lose_and_finish(store, job_id)
    url = f"/v1/jobs/{job_id}/events"
    whole = parse(api.get(url))
    rest = parse(api.get(f"{url}?lastEventId={whole[3].id}"))
    assert [event.id for event in rest] == [event.id for event in whole[4:]]
    assert api.get(f"{url}?lastEventId={whole[-1].id}").status_code == 204


def test_another_owners_stream_is_unknown(api, anonymous, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    with store.begin() as tx:
        stranger = {"Authorization": f"Bearer {keys.create(tx, 'stranger')[1]}"}
    answer = anonymous.get(f"/v1/jobs/{job_id}/events", headers=stranger)
    calls.assert_problem(answer, 404, "job_not_found")


def test_a_real_jobs_stream_has_every_step_in_time(
    settings, store, tmp_path, api_key, photo, change
):
    """Uses a real dispatcher and worker. `at` is the worker's time of the step."""
    config = change(
        public_url=f"http://127.0.0.1:{services.free_port()}",
        served_profiles=("noop",),
        model_profile="noop",
        model_steps=8,
    )
    with services.gunicorn(config) as url, make_fleet(config, store, tmp_path) as fleet:
        fleet.dispatcher()
        fleet.worker(noop_step_s=0.4).wait_ready()
        headers = {"Authorization": f"Bearer {api_key}"}
        job = httpx.post(f"{url}/v1/jobs", files={"image": photo}, headers=headers, timeout=60)
        found = sse.read(f"{url}/v1/jobs/{job.json()['id']}/events", api_key)
    assert states(found)[-1] == "succeeded"
    assert states(found)[0] == "queued"
    assert steps(found) == list(range(1, 9))
    lags = [
        event.at - datetime.fromisoformat(event.data["at"]).timestamp()
        for event in found
        if event.name == "progress"
    ]
    assert statistics.median(lags) < 0.3, lags
    assert found[-1].name == "completed"


def test_without_redis_the_stream_still_has_every_state(change, api_key, photo, store):
    dead = f"redis://127.0.0.1:{services.free_port()}/0"
    config = change(redis_url=dead, public_url=f"http://127.0.0.1:{services.free_port()}")
    headers = {"Authorization": f"Bearer {api_key}"}
    with services.gunicorn(config) as url:
        job = httpx.post(f"{url}/v1/jobs", files={"image": photo}, headers=headers, timeout=60)
        job_id = job.json()["id"]
        found = []
        reader = threading.Thread(
            target=lambda: found.extend(sse.read(f"{url}/v1/jobs/{job_id}/events", api_key))
        )
        reader.start()
        placed = place_and_begin(store, job_id)
        with store.autocommit() as conn:
            attempts.renew(conn, placed.job_id, placed.fence, step=3, lease_token=make.LEASE)
        time.sleep(1.5)
        finish(store, placed)
        reader.join(30)
    assert states(found) == ["queued", "starting", "processing", "succeeded"]
    assert steps(found) == [3]


def test_submits_work_with_200_streams_on_one_process(change, store, api_key, photo, client):
    """Every stream also gets the steps, and a deploy then ends them all within seconds."""
    config = change(
        public_url=f"http://127.0.0.1:{services.free_port()}", served_profiles=("noop",)
    )
    headers = {"Authorization": f"Bearer {api_key}"}
    owner_jobs = []
    with contextlib.ExitStack() as running:
        url = running.enter_context(services.gunicorn(config))
        for _ in range(20):
            answer = httpx.post(
                f"{url}/v1/jobs", files={"image": photo}, headers=headers, timeout=60
            )
            owner_jobs.append(answer.json()["id"])
        with store.begin() as tx:
            tokens = [f"t{n}" for n in range(20)]
            placed = make.place(tx, "noop", "us-east", "us-east", tokens)
            for row in placed:
                make.begin(tx, row.job_id, row.fence, attempt_limit_s=600)
        open_streams = threading.Barrier(201, timeout=120)
        lags: list[float] = []
        ended: list[bool] = []

        def listen(n):
            path = f"{url}/v1/jobs/{owner_jobs[n % 20]}/events"
            with httpx.stream("GET", path, headers=headers, timeout=120) as answer:
                assert answer.status_code == 200
                stream = sse.events(answer.iter_lines())
                seen = [next(stream) for _ in range(3)]  # queued, starting, processing
                assert states(seen)[-1] == "processing"
                open_streams.wait()
                for event in stream:
                    at = datetime.fromisoformat(event.data["at"]).timestamp()
                    lags.append(event.at - at)
                ended.append(True)

        with ThreadPoolExecutor(200) as pool:
            listening = [pool.submit(listen, n) for n in range(200)]
            open_streams.wait()
            began = time.monotonic()
            answer = httpx.post(
                f"{url}/v1/jobs", files={"image": photo}, headers=headers, timeout=60
            )
            assert answer.status_code == 202
            assert time.monotonic() - began < 5
            for row in placed:
                progress.report(client, row.job_id, Step(row.fence, 1, time.time()), 4)
            services.wait_until(lambda: len(lags) >= 200, timeout_s=30)
            began = time.monotonic()
            running.close()
            assert time.monotonic() - began < 14, "it had to be killed"
            for one in listening:
                one.result(timeout=60)
    assert len(ended) == 200
    assert statistics.median(lags) < 1.0, "this machine is shared; scripts/bench has the figure"


def test_without_a_waiting_slot_a_stream_is_503_and_closing_one_frees_its_slot(
    change, api_key, photo
):
    config = change(api_waiters=1, public_url=f"http://127.0.0.1:{services.free_port()}")
    headers = {"Authorization": f"Bearer {api_key}"}
    with services.gunicorn(config) as url:
        job = httpx.post(f"{url}/v1/jobs", files={"image": photo}, headers=headers, timeout=60)
        path = f"{url}/v1/jobs/{job.json()['id']}/events"
        with httpx.stream("GET", path, headers=headers, timeout=30) as first:
            assert first.status_code == 200
            lines = first.iter_lines()  # keep a reference: the connection closes with it
            next(lines)
            second = httpx.get(path, headers=headers, timeout=30)
            assert (second.status_code, second.json()["code"]) == (503, "too_many_streams")
            assert second.headers["Retry-After"] == "5"
            assert next(lines) == ""

        def again():
            with httpx.stream("GET", path, headers=headers, timeout=30) as answer:
                return answer.status_code == 200

        services.wait_until(again, timeout_s=40)


def test_a_waiting_jobs_stream_has_its_queue_position(api, photo, store):
    first = calls.submit(api, photo).get_json()["id"]
    second = calls.submit(api, photo).get_json()["id"]
    stream = api.get(f"/v1/jobs/{second}/events", buffered=False)
    lines = (line for chunk in stream.response for line in chunk.decode().split("\n")[:-1])
    found = sse.events(lines)
    assert next(found).data["state"] == "queued"
    place = next(found)
    assert (place.name, place.id, place.data["position"]) == ("queue", None, 1)
    api.post(f"/v1/jobs/{first}/cancel")
    api.post(f"/v1/jobs/{second}/cancel")
    rest = list(found)
    assert rest[-1].data["state"] == "canceled"
    assert make.read(store, second).state == "canceled"
    stream.close()
