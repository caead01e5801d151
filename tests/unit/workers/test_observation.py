"""What an attempt tells metrics and traces, without a worker process around it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from structlog.contextvars import clear_contextvars, get_contextvars

from app.telemetry import GPU_WORKER
from workers.gpu import observation

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REGION = "observed-region"


def worker_in(region):
    return SimpleNamespace(name="gpu@host", pool=SimpleNamespace(region=region, profile="noop"))


WORKER = worker_in(REGION)


@pytest.fixture(autouse=True)
def no_fields():
    clear_contextvars()
    yield
    assert get_contextvars() == {}, "an attempt's fields end with it"


def job(**changes):
    now = datetime.now(UTC)
    values = {
        "id": UUID(int=1),
        "fence": 3,
        "begun": 1,
        "priority": 1,
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
        "created_at": now - timedelta(seconds=9),
        "placed_at": now - timedelta(seconds=0.03),
        "started_at": now,
    }
    return SimpleNamespace(**values | changes)


def count(name, **labels):
    return GPU_WORKER.get_sample_value(f"stillmotion_{name}", labels) or 0.0


def test_log_lines_of_an_attempt_name_job_fence_region_and_trace():
    @observation.attempt
    def run():
        observation.begun(job(), WORKER)
        assert get_contextvars() == {
            "job_id": str(UUID(int=1)),
            "fence": 3,
            "region": REGION,
            "trace_id": TRACE,
        }
        return "succeeded"

    assert run() == "succeeded"


def test_waits_count_once_for_a_job_and_hand_overs_for_every_attempt():
    @observation.attempt
    def run(begun):
        observation.begun(job(begun=begun), worker_in("elsewhere"))
        return "failed"

    run(1), run(2)
    assert count("wait_seconds_count", region="elsewhere", priority="1") == 1
    assert count("wait_seconds_bucket", region="elsewhere", priority="1", le="10.0") == 1
    assert count("wait_seconds_bucket", region="elsewhere", priority="1", le="5.0") == 0
    assert count("placed_to_begun_seconds_count", region="elsewhere") == 2


@pytest.mark.parametrize(
    ("stages", "outcome", "lost", "fenced"),
    [
        (("fetch", "render"), "superseded", 1, 0),
        (("fetch", "render", "upload"), "superseded", 1, 1),
        (("fetch", "render", "upload"), "canceled", 0, 0),
        (("fetch", "render", "upload"), "succeeded", 0, 0),
    ],
)
def test_a_clip_that_was_stored_in_vain_is_a_fenced_finish(stages, outcome, lost, fenced):
    @observation.attempt
    def run():
        observation.begun(job(), WORKER)
        for stage in stages:
            observation.stage(stage, 0.1)
        return outcome

    before = [count(f"{name}_total", region=REGION) for name in ("leases_lost", "fenced_finishes")]
    run()
    after = [count(f"{name}_total", region=REGION) for name in ("leases_lost", "fenced_finishes")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [lost, fenced]


def test_a_message_that_began_nothing_is_no_attempt():
    before = count("wait_seconds_count", region=REGION, priority="1")
    assert observation.attempt(lambda: "stale")() == "stale"
    assert count("wait_seconds_count", region=REGION, priority="1") == before


def test_an_attempt_whose_end_could_not_be_reported_raises_what_ended_it():
    @observation.attempt
    def run():
        observation.begun(job(), WORKER)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run()
    assert get_contextvars() == {"trace_id": TRACE}, "for the line about it"
    clear_contextvars()


def test_step_time_is_between_neighbouring_steps_of_one_render():
    before = count("step_seconds_count")
    for step in (1, 2, None, 3, 1, 2):  # three steps, and two of the next render
        observation.step(step)
    assert count("step_seconds_count") == before + 3
