"""The job protocol's statements on a real Postgres."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.domain.errors import DatabaseUnavailable, Permanent, Transient
from app.store.job import attempts, jobs, reaping
from app.store.session import Store
from stillmotion import __version__
from stillmotion.states import JobState
from tests.support import make
from tests.support.proxy import Proxy


@pytest.fixture
def owner(store):
    return make.owner(store)


def place(store, region="us-east", source="us-east", n=1):
    with store.begin() as tx:
        return make.place(tx, "noop", source, region, [f"t{i}" for i in range(n)])


def begin(store, placed, lease_token=make.LEASE):
    with store.autocommit() as conn:
        return make.begin(conn, placed.job_id, placed.fence, lease_token=lease_token)


def renew(store, placed, step=1):
    with store.autocommit() as conn:
        return attempts.renew(conn, placed.job_id, placed.fence, step=step, lease_token=make.LEASE)


def finish(store, placed, key="outputs/x.mp4"):
    with store.autocommit() as conn:
        return attempts.finish(conn, placed.job_id, placed.fence, key, 10, lease_token=make.LEASE)


def stop(store, placed):
    with store.autocommit() as conn:
        return attempts.stop(conn, placed.job_id, placed.fence, lease_token=make.LEASE)


def fail(store, placed, error, delay_s=0.0, next_region="eu-west"):
    with store.begin() as tx:
        return attempts.fail(
            tx,
            placed.job_id,
            placed.fence,
            error,
            delay_s=delay_s,
            next_region=next_region,
            lease_token=make.LEASE,
        )


def deliveries(store, job_id):
    with store.autocommit() as conn:
        rows = conn.execute(
            text("SELECT event FROM webhook_deliveries WHERE job_id = :id"), {"id": job_id}
        )
        return [row.event for row in rows]


def test_a_job_is_placed_begun_and_finished(store, owner):
    job_id = make.submit(store, owner, webhook_url="https://example.com/hook")
    [placed] = place(store)
    assert begin(store, placed).token == placed.token
    assert finish(store, placed)
    job = make.read(store, job_id)
    assert (job.state, job.fence, job.begun) == ("succeeded", 1, 1)
    assert job.output_key == "outputs/x.mp4"
    assert deliveries(store, job_id) == ["job.succeeded"]
    [attempt] = make.attempts_of(store, job_id)
    assert (attempt.outcome, attempt.worker) == ("succeeded", "w")


def test_only_the_current_fence_may_begin_renew_finish_or_fail(store, owner):
    job_id = make.submit(store, owner)
    [stale] = place(store)
    with store.autocommit() as conn:
        assert attempts.take_back(conn, job_id, stale.fence, stale.token, "broker_unavailable")
    [current] = place(store)
    assert current.fence == stale.fence + 1
    assert begin(store, stale) is None
    assert begin(store, current) is not None
    assert begin(store, current, "another") is None, "a second delivery of the same message"
    assert renew(store, stale) is None
    assert renew(store, current) is True
    assert not finish(store, stale)
    assert fail(store, stale, Transient("x")) is None
    assert make.read(store, job_id).state == "processing"


def test_a_begin_whose_answer_was_lost_can_be_repeated(store, database_url, owner):
    """The connection is cut after the commit and before the answer; the worker tries again."""
    job_id = make.submit(store, owner)
    [placed] = place(store)
    parts = urlsplit(database_url)
    proxy = Proxy((parts.hostname, parts.port))
    cut_off = Store(
        f"postgresql+psycopg://{parts.netloc.replace(str(parts.port), str(proxy.port))}{parts.path}"
    )
    with cut_off.autocommit():
        proxy.lose_answer_to(b"state = 'processing', begun")
    with pytest.raises(DatabaseUnavailable):
        begin(cut_off, placed)
    assert proxy.cuts == 1
    assert make.read(store, job_id).state == "processing", "the commit held"
    assert begin(store, placed, "another") is None, "only the worker that holds the lease"
    make.backdate(store, job_id, "started_at", 20.0)
    again = begin(cut_off, placed)
    assert (again.id, again.token, again.lease_token) == (job_id, placed.token, make.LEASE)
    assert again.begun == 1, "it does not count twice"
    assert datetime.now(UTC) - again.started_at < timedelta(seconds=10), "the start time is reset"
    cut_off.close()
    proxy.close()
    assert finish(store, placed)
    assert begin(store, placed) is None, "it has ended"


def test_a_repeated_begin_of_a_canceled_job_may_stop_it(store, owner):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    begin(store, placed)
    with store.begin() as tx:
        jobs.cancel(tx, job_id, owner_id=owner)
    assert begin(store, placed).cancel_requested
    assert renew(store, placed) is False
    assert stop(store, placed)


def test_a_repeated_begin_does_not_take_a_lost_attempt_back(store, owner):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    begin(store, placed)
    make.backdate(store, job_id, "lease_until")
    with store.begin() as tx:
        reaping.reap_lost(tx)
    assert begin(store, placed) is None
    place(store)
    assert begin(store, placed) is None


def test_a_begin_in_another_region_than_the_placements_is_stale(store, owner):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    with store.autocommit() as conn:
        stale = attempts.begin(
            conn,
            job_id,
            placed.fence,
            worker="w",
            attempt_limit_s=60.0,
            lease_token=make.LEASE,
            region="eu-west",
        )
    assert stale is None
    assert begin(store, placed) is not None


def test_first_commit_wins_and_one_webhook_is_owed(store, owner):
    job_id = make.submit(store, owner, webhook_url="https://example.com/hook")
    [placed] = place(store)
    begin(store, placed)
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda _: finish(store, placed), range(8)))
    assert won.count(True) == 1
    assert deliveries(store, job_id) == ["job.succeeded"]


def test_two_dispatchers_never_place_one_job_twice(store, owner):
    made = {make.submit(store, owner) for _ in range(40)}
    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(lambda _: place(store, n=20), range(4)))
    placed = [row.job_id for batch in batches for row in batch]
    assert len(placed) == len(set(placed)) and set(placed) == made


def test_jobs_are_taken_by_priority_and_then_by_age(store, owner):
    late = make.submit(store, owner, priority=2)
    normal = [make.submit(store, owner) for _ in range(2)]
    urgent = make.submit(store, owner, priority=0)
    assert [place(store)[0].job_id for _ in range(4)] == [urgent, *normal, late]


def test_overflow_takes_neither_strict_jobs_nor_those_not_allowed_in_the_region(store, owner):
    make.submit(store, owner, policy="strict")
    make.submit(store, owner, allowed_regions=["us-east"])
    free = make.submit(store, owner)
    listed = make.submit(store, owner, allowed_regions=["us-east", "eu-west"])
    assert {p.job_id for p in place(store, "eu-west", n=4)} == {free, listed}


def test_a_transient_failure_waits_and_then_goes_elsewhere(store, owner):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    begin(store, placed)
    assert fail(store, placed, Transient("x", code="device_lost"), delay_s=30) is JobState.QUEUED
    assert place(store) == [] and place(store, "eu-west", "eu-west") == []
    make.backdate(store, job_id, "not_before")
    with store.begin() as tx:
        assert reaping.release(tx)[0] == 1
    assert place(store) == []
    [again] = place(store, "eu-west", "eu-west")
    assert again.fence == placed.fence + 1
    first, _ = make.attempts_of(store, job_id)
    assert (first.outcome, first.error_code) == ("failed", "device_lost")
    assert first.hops[-1]["reason"] == "device_lost"


def test_the_third_begun_attempt_is_the_last(store, owner):
    job_id = make.submit(store, owner, webhook_url="https://example.com/hook")
    for n in range(3):
        [placed] = place(store)
        begin(store, placed)
        state = fail(store, placed, Transient("x", code="device_lost"), next_region="us-east")
        assert state is (JobState.QUEUED if n < 2 else JobState.FAILED)
    job = make.read(store, job_id)
    assert (job.begun, job.error_code) == (3, "device_lost")
    assert deliveries(store, job_id) == ["job.failed"]


def test_a_permanent_failure_is_not_tried_again(store, owner):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    begin(store, placed)
    assert fail(store, placed, Permanent("x", code="bad_input")) is JobState.FAILED
    assert make.read(store, job_id).error_code == "bad_input"


def test_placements_that_nobody_began_use_up_no_attempt(store, owner):
    job_id = make.submit(store, owner)
    for patience in (1, 1, 2, 4, 8):
        assert len(place(store)) == 1
        make.backdate(store, job_id, "placed_at", 2.1 * patience)
        with store.begin() as tx:
            assert len(reaping.reap_unbegun(tx)) == 1
    job = make.read(store, job_id)
    assert (job.state, job.fence, job.begun) == ("queued", 5, 0)


@pytest.mark.parametrize("column", ["lease_until", "attempt_until"])
def test_a_lost_attempt_is_taken_back(store, owner, column):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    begin(store, placed)
    with store.begin() as tx:
        assert not reaping.reap_lost(tx), "the lease is still good"
    make.backdate(store, job_id, column)
    with store.begin() as tx:
        assert [row.id for row in reaping.reap_lost(tx)[JobState.QUEUED]] == [job_id]
    assert not finish(store, placed)
    [attempt] = make.attempts_of(store, job_id)
    assert attempt.outcome == "lost"


def test_the_reaper_cancels_a_lost_job_that_was_asked_to_stop(store, owner):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    begin(store, placed)
    with store.begin() as tx:
        assert jobs.cancel(tx, job_id, owner_id=owner).state == "processing"
    make.backdate(store, job_id, "lease_until")
    with store.begin() as tx:
        assert len(reaping.reap_lost(tx)[JobState.CANCELED]) == 1
    assert make.read(store, job_id).state == "canceled"


def test_the_reaper_fails_a_job_whose_last_attempt_is_lost(store, owner):
    job_id = make.submit(store, owner)
    for _ in range(3):
        [placed] = place(store)
        begin(store, placed)
        make.backdate(store, job_id, "lease_until")
        with store.begin() as tx:
            reaping.reap_lost(tx)
    job = make.read(store, job_id)
    assert (job.state, job.error_code, job.begun) == ("failed", "attempts_exhausted", 3)


def test_cancel_beats_a_finish_that_comes_later(store, owner):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    begin(store, placed)
    with store.begin() as tx:
        jobs.cancel(tx, job_id, owner_id=owner)
    assert renew(store, placed) is False
    assert not finish(store, placed)
    assert stop(store, placed)
    assert make.read(store, job_id).state == "canceled"


def test_canceling_a_placed_job_makes_its_message_stale(store, owner):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    with store.begin() as tx:
        assert jobs.cancel(tx, job_id, owner_id=owner).state == "canceled"
    assert begin(store, placed) is None


def test_another_owner_cannot_see_or_cancel_a_job(store, owner):
    job_id = make.submit(store, owner)
    stranger = make.owner(store)
    with store.begin() as tx:
        assert jobs.get(tx, job_id, owner_id=stranger) is None
        assert jobs.cancel(tx, job_id, owner_id=stranger) is None
    assert make.read(store, job_id).state == "queued"


def test_a_job_that_waited_too_long_expires_with_a_webhook(store, owner):
    job_id = make.submit(store, owner, webhook_url="https://example.com/hook")
    make.backdate(store, job_id, "queue_deadline")
    with store.begin() as tx:
        reaping.reap_deadlines(tx)
    job = make.read(store, job_id)
    assert (job.state, job.error_code) == ("expired", "queue_timeout")
    assert deliveries(store, job_id) == ["job.expired"]


def test_a_deadline_passed_while_processing_cancels_with_its_own_code(store, owner):
    job_id = make.submit(store, owner, deadline_s=3600.0)
    [placed] = place(store)
    begin(store, placed)
    make.backdate(store, job_id, "deadline")
    with store.begin() as tx:
        ended = reaping.reap_deadlines(tx)
        assert [(row.id, row.fence) for row in ended["canceled"]] == [(job_id, placed.fence)]
    job = make.read(store, job_id)
    assert (job.state, job.error_code) == ("canceled", "deadline_exceeded")
    assert not finish(store, placed), "its worker is late, and nothing changes"


def test_a_clip_that_is_ready_after_the_deadline_is_refused(store, owner):
    """Without any reaper: the worker's own commit says so, and it ends the job itself."""
    job_id = make.submit(store, owner, deadline_s=3600.0)
    [placed] = place(store)
    assert begin(store, placed).deadline_in_s == pytest.approx(3600, abs=60)
    assert not stop(store, placed)
    make.backdate(store, job_id, "deadline", 0.01)
    assert not finish(store, placed)
    assert stop(store, placed)
    job = make.read(store, job_id)
    assert (job.state, job.error_code) == ("canceled", "deadline_exceeded")


@pytest.mark.parametrize("column", ["deadline", "queue_deadline"])
def test_the_reaper_knows_when_the_next_deadline_is(store, owner, column):
    def left():
        with store.autocommit() as conn:
            return reaping.next_deadline_s(conn)

    name = {"deadline": "deadline_s", "queue_deadline": "max_queue_s"}[column]
    job_id = make.submit(store, owner, **{name: 30.0})
    assert 20 < left() < 31
    make.backdate(store, job_id, column)
    assert left() == 0.0
    with store.begin() as tx:
        reaping.reap_deadlines(tx)
    assert left() is None


@pytest.mark.parametrize(
    "change",
    [
        "state = 'queued', finished_at = NULL, output_key = NULL",
        "output_key = 'outputs/other.mp4'",
        "fence = fence + 1",
        "finished_at = now() + interval '1 s'",
    ],
)
def test_the_schema_forbids_changing_how_a_job_ended(store, owner, change):
    job_id = make.submit(store, owner)
    [placed] = place(store)
    begin(store, placed)
    finish(store, placed)
    with pytest.raises(IntegrityError, match="guard_job"), store.begin() as tx:
        tx.execute(text(f"UPDATE jobs SET {change} WHERE id = :id"), {"id": job_id})


@pytest.mark.parametrize(
    "change",
    [
        "state = 'processing'",  # without being placed, begun or leased
        "state = 'succeeded', finished_at = now(), output_key = 'x'",
        "state = 'failed', finished_at = now()",
        "state = 'dreaming'",
        "lease_until = now()",
        "begun = 1",
        "fence = -1",
        "priority = 3",
    ],
)
def test_the_schema_forbids_impossible_rows(store, owner, change):
    job_id = make.submit(store, owner)
    with pytest.raises(IntegrityError), store.begin() as tx:
        tx.execute(text(f"UPDATE jobs SET {change} WHERE id = :id"), {"id": job_id})


def test_an_attempt_says_which_model_and_which_release_made_it(store, owner):
    make.submit(store, owner)
    [placed] = place(store)
    with store.autocommit() as conn:
        attempts.begin(
            conn,
            placed.job_id,
            placed.fence,
            worker="w",
            attempt_limit_s=60.0,
            lease_token=make.LEASE,
            region="us-east",
            model_version="motion-small-3",
        )
    [attempt] = make.attempts_of(store, placed.job_id)
    assert (attempt.model_version, attempt.release) == ("motion-small-3", __version__)
