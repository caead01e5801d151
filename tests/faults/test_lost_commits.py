"""A crash of Postgres that undoes the commits which did not wait for the disk."""

import pytest

from app.domain.errors import Transient
from app.objects import objects_for
from app.store.job import attempts
from app.store.session import Store
from scripts.stack.data import DataDir
from tests.support import make, services
from tests.support.fleet import wait_for
from tests.support.gpu_worker import held_worker
from tests.support.postgres import CrashingPostgres


@pytest.fixture
def postgres():
    server = CrashingPostgres(DataDir(None))
    server.start()
    services.migrate(server.url)
    yield server
    server.close()


def test_two_attempts_with_one_fence_share_no_clip(postgres, change, objects_dir):
    """The crash undoes a placement and its begin; the next placement gets the same fence."""
    config = change(database_url=postgres.url)
    store, objects = Store(config.sqlalchemy_url), objects_for(config)
    objects.put(make.INPUT_KEY, b"not looked at", "image/jpeg")
    job_id = make.submit(store, make.owner(store))
    postgres.hold_the_log()
    with store.begin() as tx:
        [first] = make.place(tx, "noop", "us-east", "us-east", ["t1"])
    with held_worker(config, "w1") as one:
        one.take(job_id, first.fence)
        assert one.engine.rendering.wait(30)
        postgres.crash()
        store.close()
        postgres.start()
        store = Store(config.sqlalchemy_url)
        assert make.read(store, job_id).state == "queued", "the crash undid the placement"
        with store.begin() as tx:
            [second] = make.place(tx, "noop", "us-east", "us-east", ["t2"])
        assert second.fence == first.fence
        with held_worker(config, "w2") as two:
            two.engine.go_on.set()
            two.take(job_id, second.fence)
            wait_for(lambda: two.outcomes == {job_id: "succeeded"}, timeout_s=30)
        one.engine.go_on.set()
        wait_for(lambda: one.outcomes == {job_id: "superseded"}, timeout_s=30)
    job = make.read(store, job_id)
    store.close()
    assert job.state == "succeeded"
    assert objects.get(job.output_key) == b"clip of w2"
    assert [info.key for info in objects.list("outputs/")] == [job.output_key]


def test_the_worker_of_a_lost_begin_does_not_end_another_attempt(postgres, change):
    """Only the begin is lost: its placement stays, and a second delivery begins it again."""
    store = Store(change(database_url=postgres.url).sqlalchemy_url)
    owner = make.owner(store)
    job_id = make.submit(store, owner)
    with store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["t1"])
    make.submit(store, owner)  # waits for the disk, so the placement is durable too
    postgres.hold_the_log()

    def begin(worker: str):
        with store.begin() as tx:
            return make.begin(tx, job_id, placed.fence, worker=worker, lease_token=worker)

    assert begin("aa") is not None
    postgres.crash()
    store.close()
    postgres.start()
    assert make.read(store, job_id).state == "starting", "the crash undid the begin"
    assert begin("bb") is not None
    with store.begin() as tx:
        assert attempts.renew(tx, job_id, placed.fence, step=1, lease_token="aa") is None
        assert not attempts.finish(tx, job_id, placed.fence, "outputs/a", 1, lease_token="aa")
        assert not attempts.stop(tx, job_id, placed.fence, lease_token="aa")
        late = attempts.fail(
            tx,
            job_id,
            placed.fence,
            Transient("x"),
            delay_s=0.0,
            next_region="us-east",
            lease_token="aa",
        )
        assert late is None
        assert attempts.renew(tx, job_id, placed.fence, step=1, lease_token="bb") is True
    store.close()
