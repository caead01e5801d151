"""A crash of Postgres that undoes the commits which did not wait for the disk."""

import threading
from contextlib import contextmanager
from uuid import UUID

import pytest

from app.broker.connections import connect
from app.config.profiles_file import PROFILES
from app.config.settings import Settings
from app.domain.errors import Transient
from app.domain.routing.topology import Pool
from app.objects import LocalObjects, objects_for
from app.store.job import attempts
from app.store.session import Store
from scripts.stack.data import DataDir
from tests.support import make, services
from tests.support.postgres import CrashingPostgres
from workers.engines.noop.engine import NoopEngine
from workers.gpu import attempt
from workers.gpu.health import Health
from workers.gpu.presence import Presence


@pytest.fixture
def postgres():
    server = CrashingPostgres(DataDir(None))
    server.start()
    services.migrate(server.url)
    yield server
    server.close()


class HeldEngine(NoopEngine):
    """Renders on command; the clip names its worker."""

    def __init__(self, name: str):
        super().__init__(0.0, 0.0)
        self._name = name
        self.rendering, self.go_on = threading.Event(), threading.Event()

    def render(self, order, picture, on_step) -> bytes:
        self.rendering.set()
        assert self.go_on.wait(60)
        return f"clip of {self._name}".encode()


@contextmanager
def running(config: Settings, name: str, job_id: UUID, fence: int, objects: LocalObjects):
    """One attempt in a thread with its own worker: (engine, outcomes, thread)."""
    store, engine, outcomes = Store(config.sqlalchemy_url), HeldEngine(name), []
    pool = Pool("us-east", "noop")
    with connect(config.redis_url, 2.0) as client:
        presence = Presence(client, pool, name, holding=lambda: 0)
        worker = attempt.Worker(
            name=name,
            pool=pool,
            profile=PROFILES["noop"],
            settings=config,
            store=store,
            objects=objects,
            client=client,
            engine=engine,
            credentials=None,
            presence=presence,
            health=Health(store, objects, name),
            on_stall=lambda why: None,
        )
        thread = threading.Thread(
            target=lambda: outcomes.append(attempt.run(worker, job_id, fence)), daemon=True
        )
        thread.start()
        assert engine.rendering.wait(30)
        yield engine, outcomes, thread
        engine.go_on.set()
        thread.join(60)
    store.close()


def test_two_attempts_with_one_fence_share_no_clip(postgres, change, objects_dir):
    """The crash undoes a placement and its begin; the next placement gets the same fence."""
    config = change(database_url=postgres.url)
    store, objects = Store(config.sqlalchemy_url), objects_for(config)
    objects.put(make.INPUT_KEY, b"not looked at", "image/jpeg")
    job_id = make.submit(store, make.owner(store))
    postgres.hold_the_log()
    with store.begin() as tx:
        [first] = make.place(tx, "noop", "us-east", "us-east", ["t1"])
    with running(config, "w1", job_id, first.fence, objects) as (one, outcomes, thread):
        postgres.crash()
        store.close()
        postgres.start()
        store = Store(config.sqlalchemy_url)
        assert make.read(store, job_id).state == "queued", "the crash undid the placement"
        with store.begin() as tx:
            [second] = make.place(tx, "noop", "us-east", "us-east", ["t2"])
        assert second.fence == first.fence
        with running(config, "w2", job_id, second.fence, objects) as (two, won, ended):
            two.go_on.set()
            ended.join(30)
            assert won == ["succeeded"]
        one.go_on.set()
        thread.join(30)
        assert outcomes == ["superseded"]
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
