"""Race windows held open: a second connection acts between any two statements of the first.

If a lock refuses the second one, it acts after the first has committed, as if it had waited.
"""

from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from app.domain.errors import DatabaseUnavailable, Transient
from app.store.job import attempts, jobs, reaping, retention, slots
from app.store.session import Store
from stillmotion.states import JobState
from tests.support import make
from tests.support.statements import hear


@pytest.fixture
def owner(store):
    return make.owner(store)


@pytest.fixture
def impatient(database_url):
    """A second store whose statements wait only briefly for a lock."""
    store = Store(database_url.replace("postgresql:", "postgresql+psycopg:"), timeout_s=0.3)
    yield store
    store.close()


def with_window(store, work, after: int, meanwhile) -> object:
    """`work(tx)` in a transaction, with `meanwhile()` run after its statement number `after`.

    Returns what `work` returned. `meanwhile` runs once more after the commit if a lock refused it.
    """
    refused, seen = False, 0

    def note(*_: object) -> None:
        nonlocal refused, seen
        seen += 1
        if seen == after:
            try:
                meanwhile()
            except DatabaseUnavailable:
                refused = True

    with store.begin() as tx:
        stop = hear(tx.connection.driver_connection, after=note)
        answer = work(tx)
        stop()
    if refused:
        meanwhile()
    return answer


def placed(store):
    with store.begin() as tx:
        [one] = make.place(tx, "noop", "us-east", "us-east", ["t"])
    return one


def begun(store):
    one = placed(store)
    with store.begin() as tx:
        make.begin(tx, one.job_id, one.fence)
    return one


def fail(store, one) -> None:
    with store.begin() as tx:
        attempts.fail(
            tx,
            one.job_id,
            one.fence,
            Transient("x"),
            delay_s=0.0,
            next_region="us-east",
            lease_token=make.LEASE,
        )


def lose(store, one) -> None:
    with store.begin() as tx:
        tx.execute(
            text("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE lease_until > now()")
        )
        reaping.reap_lost(tx)


def take_back(store, one) -> None:
    with store.begin() as tx:
        attempts.take_back(tx, one.job_id, one.fence, one.token, "queue_unavailable")


def begin(store, one) -> None:
    with store.begin() as tx:
        make.begin(tx, one.job_id, one.fence)


def place(store, one) -> None:
    with store.begin() as tx:
        make.place(tx, "noop", "us-east", "us-east", ["t"])


def run_to_its_end(store, job_id: UUID) -> JobState:
    """Let workers run the job as far as they may. Returns its final state."""
    for _ in range(4):
        job = make.read(store, job_id)
        if job.state == "queued":
            place(store, None)
        elif job.state == "starting":
            with store.begin() as tx:
                make.begin(tx, job_id, job.fence)
        elif job.state == "processing":
            with store.begin() as tx:
                if not attempts.finish(
                    tx, job_id, job.fence, "outputs/x.mp4", 1, lease_token=make.LEASE
                ):
                    attempts.stop(tx, job_id, job.fence, lease_token=make.LEASE)
    return JobState(make.read(store, job_id).state)


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize(
    ("prepare", "meanwhile"),
    [
        (begun, fail),
        (begun, lose),
        (placed, begin),
        (placed, take_back),
        (lambda store: None, place),
    ],
    ids=["attempt fails", "lease is lost", "begins", "placement is taken back", "is placed"],
)
def test_a_cancel_that_was_answered_holds(store, impatient, owner, prepare, meanwhile, after):
    job_id = make.submit(store, owner)
    one = prepare(store)
    row = with_window(
        store,
        lambda tx: jobs.cancel(tx, job_id, owner_id=owner),
        after,
        lambda: meanwhile(impatient, one),
    )
    assert row.state == "canceled" or (row.state == "processing" and row.cancel_requested)
    assert run_to_its_end(store, job_id) is JobState.CANCELED


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize(
    ("prepare", "meanwhile"),
    [(begun, fail), (begun, lose), (placed, begin), (placed, take_back)],
    ids=["attempt fails", "lease is lost", "begins", "placement is taken back"],
)
def test_a_deadline_that_passed_ends_the_job(store, impatient, owner, prepare, meanwhile, after):
    """The reaper's next pass catches what slipped through one; nothing is rendered."""
    job_id = make.submit(store, owner)
    one = prepare(store)
    make.backdate(store, job_id, "deadline")
    with_window(store, reaping.reap_deadlines, after, lambda: meanwhile(impatient, one))
    with store.begin() as tx:
        reaping.reap_deadlines(tx)
    assert run_to_its_end(store, job_id) in (JobState.CANCELED, JobState.EXPIRED)


@pytest.mark.parametrize("meanwhile", ["finish", "fail", "lose"])
def test_a_deleted_job_is_gone_whatever_its_attempt_does(store, owner, meanwhile):
    """The attempt ends or loses the job between a deletion's cancel and second transaction."""
    job_id = make.submit(store, owner)
    one = begun(store)
    with store.begin() as tx:
        assert jobs.cancel(tx, job_id, owner_id=owner).state == "processing"
    if meanwhile == "finish":
        with store.begin() as tx:
            assert not attempts.finish(
                tx, job_id, one.fence, "outputs/x.mp4", 1, lease_token=make.LEASE
            )
            assert attempts.stop(tx, job_id, one.fence, lease_token=make.LEASE)
    else:
        {"fail": fail, "lose": lose}[meanwhile](store, one)
    with store.begin() as tx:
        retention.keep_no_longer(tx, job_id, owner_id=owner)
    with store.begin() as tx:
        assert [row.id for row in retention.purge_expired(tx, limit=9)] == [job_id]


def test_the_last_slot_is_given_out_once(store, impatient, owner):
    """A second submit counts the slots only after the first one has committed."""
    taken: list[bool] = []

    def second() -> None:
        with impatient.begin() as tx:
            taken.append(slots.take(tx, owner, 1))

    def first(tx: Connection) -> None:
        taken.append(slots.take(tx, owner, 1))
        jobs.add(tx, make.new_job(owner, slot=True))

    with_window(store, first, 2, second)
    assert taken == [True, False]
