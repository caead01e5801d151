"""Single windows between statements and commits, held open: the ones that were found broken."""

import pytest

from app.domain.errors import Transient
from app.store.job import attempts, jobs
from tests.support import make
from tests.support.interleave import Stage


@pytest.fixture
def stage(store, session_settings):
    stage = Stage(session_settings.sqlalchemy_url)
    stage.keeps_history = True
    yield stage
    stage.close()


def begun(store, owner):
    """A job that a worker has begun, and its fence."""
    job_id = make.submit(store, owner)
    with store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["token"])
        make.begin(tx, job_id, placed.fence)
    return job_id, placed.fence


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(
            1,
            marks=pytest.mark.xfail(
                strict=True, reason="a cancel is two statements, and a job moves between them"
            ),
        ),
        2,
    ],
)
def test_a_failure_between_the_statements_of_a_cancel_loses_no_cancel(store, stage, after):
    owner = make.owner(store)
    job_id, fence = begun(store, owner)
    answers = []

    def cancel(actor):
        with actor.tx() as tx:
            answers.append(jobs.cancel(tx, job_id, owner_id=owner))

    def fail(actor):
        with actor.tx() as tx:
            attempts.fail(
                tx,
                job_id,
                fence,
                Transient("x"),
                delay_s=0.0,
                next_region="us-east",
                lease_token=make.LEASE,
            )

    canceling, failing = stage.actors
    canceling.start(cancel)
    for _ in range(after):
        canceling.step()
    failing.start(fail)
    for _ in range(20):  # whoever waits for the other goes on when that one is through
        failing.step()
        canceling.step() if not failing.busy else None
    for _ in range(20):
        canceling.step()
        failing.step()
    [answer] = answers
    assert answer.state == "canceled" or answer.cancel_requested
    row = make.read(store, job_id)
    assert row.state in ("canceled", "processing") or row.cancel_requested


@pytest.mark.xfail(
    strict=True, reason="after a crash took a placement back, its fence is handed out again"
)
def test_a_fence_that_a_crash_took_back_is_not_handed_out_again(store, stage):
    make.submit(store, make.owner(store))
    handed_out = []
    stage.committed(lazy=False)

    def place(actor):
        with actor.tx() as tx:
            handed_out.extend(make.place(tx, "noop", "us-east", "us-east", ["token"]))

    for _ in range(2):
        stage.actors[0].start(place)
        while stage.actors[0].busy:
            stage.actors[0].step()
        assert stage.losable == 1, "placing does not wait for the disk"
        stage.crash(lost=1)
    first, second = handed_out
    assert first.fence != second.fence
