"""A GPU worker in the test's own process, whose renders and deliveries wait for the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from app.broker.connections import connect
from app.config.profiles_file import PROFILES
from app.config.settings import Settings
from app.domain.routing.topology import Pool
from app.objects import objects_for
from app.store.session import Store
from workers.engines.noop.engine import NoopEngine
from workers.gpu import attempt
from workers.gpu.foresight import Foresight
from workers.gpu.health import Health
from workers.gpu.presence import Presence
from workers.gpu.stages import Place, Stage, Stages
from workers.gpu.worker import Worker

PATIENCE_S = 60.0


class HeldEngine(NoopEngine):
    """Each render and each encode waits until the test lets it go; the clip names its worker."""

    def __init__(self, name: str):
        super().__init__(0.0, 0.0)
        self._name = name
        self.rendering = threading.Event()
        self.go_on = threading.Event()
        self.encode_on = threading.Event()
        self.encode_on.set()
        self.rendered: list[int] = []  # the seeds of the jobs that had the GPU

    def render(self, prepared, on_step):
        self.rendered.append(prepared.seed)
        self.rendering.set()
        assert self.go_on.wait(PATIENCE_S)
        return super().render(prepared, on_step)

    def encode(self, rendered, on_step) -> bytes:
        assert self.encode_on.wait(PATIENCE_S)
        on_step(None)
        return f"clip of {self._name}".encode()


class AlwaysSoon(Foresight):
    """Every render seems to be about to end, so a worker takes jobs as early as it may."""

    def full_s(self, steps):
        return 0.01

    def remaining_s(self, steps, step_s, spent_s):
        return 0.01


class HeldWorker:
    """The worker, its engine, and how its attempts ended."""

    def __init__(self, worker: Worker, engine: HeldEngine):
        self.worker, self.engine = worker, engine
        self.outcomes: dict[UUID, str] = {}
        self.places: dict[UUID, Place] = {}

    def take(self, job_id: UUID, fence: int) -> threading.Thread:
        """Take one message, as Celery's thread does."""

        def run(place: Place) -> None:
            self.places[job_id] = place
            self.outcomes[job_id] = attempt.run(self.worker, place, job_id, fence)

        stages = self.worker.stages
        taking = threading.Thread(target=lambda: stages.take(run, wanted=lambda: True), daemon=True)
        taking.start()
        return taking

    def stage(self, job_id: UUID) -> Stage | None:
        place = self.places.get(job_id)
        return None if place is None else place.stage


@contextmanager
def held_worker(config: Settings, name: str = "w1") -> Iterator[HeldWorker]:
    store, engine, objects = Store(config.sqlalchemy_url), HeldEngine(name), objects_for(config)
    pool = Pool("us-east", "noop")
    with connect(config.redis_url, 2.0) as client:
        worker = Worker(
            name=name,
            pool=pool,
            profile=PROFILES["noop"],
            settings=config,
            store=store,
            objects=objects,
            client=client,
            engine=engine,
            credentials=None,
            presence=Presence(client, pool, name, holding=lambda: 0),
            health=Health(store, objects, name),
            stages=Stages(clip_memory=2**20, foresight=AlwaysSoon()),
            on_stall=lambda why: None,
        )
        yield HeldWorker(worker, engine)
        engine.go_on.set()
        engine.encode_on.set()
        worker.stages.drain()
        worker.stages.join()
    store.close()
