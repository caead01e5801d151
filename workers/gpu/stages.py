"""The stages of a GPU worker: one attempt prepares, one renders, two deliver.

Two prepare where a render is shorter than what it takes to get the next job ready.

Every attempt runs in a thread of its own and has a Place, which moves through the stages. The GPU
belongs to one more thread. Attempts wait for their turns here and nowhere else.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from enum import Enum
from math import inf
from threading import Condition
from time import monotonic
from typing import TypeVar

import structlog

from app.domain.errors import classify
from workers.engines.base import OnStep, Rendered
from workers.gpu.foresight import ABREAST_MOST, Foresight, Render

log = structlog.get_logger(__name__)

DELIVERIES = 2
CHECK_S = 0.1  # how often those who wait look whether they still should
ASK_AGAIN_S = 0.02  # how often a worker that is about to be free looks for waiting jobs
R = TypeVar("R", bound=Rendered)


class Stage(Enum):
    ARRIVED = "arrived"  # waits for its turn to begin and prepare
    PREPARES = "prepares"  # and, when that is done, waits for the GPU
    RENDERS = "renders"  # and, when that is done, waits for its turn to deliver
    DELIVERS = "delivers"
    GONE = "gone"


class Place:
    """One attempt's place among the stages."""

    def __init__(self, arrived_at: float):
        self.stage = Stage.ARRIVED
        self.since = arrived_at  # when it began to do, or to wait for, what it does now
        self.arrived_at = arrived_at
        self.steps: int | None = None  # None: not begun
        self.alone = False  # neither renders nor delivers beside another attempt
        self.asked_at: float | None = None  # when its job, which waited, could be asked for
        self.render: Render | None = None
        self.got_gpu_at: float | None = None
        self.left_gpu_at: float | None = None
        self.held_bytes = 0  # of its rendered clip
        self.error: BaseException | None = None

    @property
    def has_begun(self) -> bool:
        return self.steps is not None


class Stages:
    """Who does what in this worker, and whether it may take another job.

    `clip_memory`: bytes that rendered clips may hold until they are encoded. `served(ms)` is called
    when an attempt leaves the GPU, with the time that it added to those before it.
    """

    def __init__(
        self,
        *,
        clip_memory: int,
        served: Callable[[int], None] = lambda ms: None,
        foresight: Foresight | None = None,
        clock: Callable[[], float] = monotonic,
    ):
        self.foresight = foresight or Foresight()
        self.clock = clock
        self._clip_memory = clip_memory
        self._served = served
        self._change = Condition()
        self._places: list[Place] = []
        self._gpu = ThreadPoolExecutor(1, thread_name_prefix="gpu")
        # Those that prepare, one that renders, those that deliver, and one that has arrived.
        most = ABREAST_MOST + 1 + DELIVERIES + 1
        self._attempts = ThreadPoolExecutor(most, thread_name_prefix="attempt")
        self._opened_at = -inf  # when the worker last became free to take a job
        self._gpu_free_at = -inf
        self._draining = False

    # --- for the thread that takes messages -------------------------------------------------------

    def take(self, run: Callable[[Place], None], *, wanted: Callable[[], bool]) -> None:
        """Run an attempt in its own thread, and return when the worker may take another.

        That is when its GPU is free, or about to be and `wanted()`: jobs wait, and no other worker
        is idle. While it drains, as soon as the attempt has begun. Raises what `run` raises before
        this returns.
        """
        place = Place(self.clock())
        with self._change:
            self._places.append(place)
        self._attempts.submit(self._run, place, run)
        while place.error is None:
            with self._change:
                wait_s, early = self._outlook(place)
                if wait_s > 0:
                    self._change.wait(min(wait_s, CHECK_S))
                    continue
            if not early or wanted():
                break
            with self._change:
                self._change.wait(ASK_AGAIN_S)
        with self._change:
            self._opened_at = self.clock()
            if place.error is not None:
                raise place.error

    def drain(self) -> None:
        """No other job will come, so `take` need not wait for room."""
        with self._change:
            self._draining = True
            self._change.notify_all()

    def join(self) -> None:
        """Wait until every attempt has ended."""
        self._attempts.shutdown()
        self._gpu.shutdown()

    def on_gpu(self, work: Callable[[], None]) -> None:
        """Run `work` in the GPU's thread, e.g. the warm-up, before any attempt."""
        self._gpu.submit(work).result()

    # --- for attempts -----------------------------------------------------------------------------

    def wait_to_prepare(self, place: Place) -> None:
        """Return when few enough others prepare, or are prepared and wait for the GPU."""
        self._wait(lambda: self._count(Stage.PREPARES) < self.foresight.abreast)
        self._move(place, Stage.PREPARES)

    def begun(self, place: Place, *, steps: int, waited_s: float, alone: bool) -> None:
        """The job has `steps` and had waited for `waited_s` in the queue when it began."""
        with self._change:
            place.steps, place.alone = steps, alone
            if waited_s > self.clock() - self._opened_at:
                # Less what it waited for its turn, which is not part of handing it over.
                place.asked_at = self._opened_at + place.since - place.arrived_at
            self._change.notify_all()

    def render(self, place: Place, work: Callable[[OnStep], R], waits: Callable[[], None]) -> R:
        """Run `work` in the GPU's thread, in turn; return when its clip may be delivered.

        `work` gets a function to call after each step. `waits` is called several times a second
        while the attempt waits for either; what it raises ends the wait and the attempt.
        """
        if place.asked_at is not None:
            self.foresight.handed_over(self.clock() - place.asked_at)
        # In the attempt's context: its log lines name the job.
        within = copy_context().run
        rendering = self._gpu.submit(within, self._render, place, work, waits)
        while not wait([rendering], CHECK_S).done:
            if place.stage is Stage.PREPARES:
                try:
                    waits()
                except BaseException:
                    if rendering.cancel():
                        raise  # it never had the GPU
        return rendering.result()

    def encoded(self, place: Place) -> None:
        """The frames of the clip are no longer in memory."""
        with self._change:
            place.held_bytes = 0
            self._change.notify_all()

    # --- inside -----------------------------------------------------------------------------------

    def _run(self, place: Place, run: Callable[[Place], None]) -> None:
        try:
            run(place)
        except BaseException as error:
            place.error = error
        finally:
            self._leave_gpu(place)
            with self._change:
                self._places.remove(place)
                self._move(place, Stage.GONE)

    def _render(self, place: Place, work: Callable[[OnStep], R], waits: Callable[[], None]) -> R:
        self._wait(lambda: self._may_render(place), waits)
        place.got_gpu_at = self.clock()
        self._move(place, Stage.RENDERS)
        rendered = self._try_render(place, work)
        if rendered is None:
            log.warning("render_repeated_alone")
            self._wait(lambda: self._count(Stage.DELIVERS) == 0, waits)
            rendered = self._timed(place, work)
        self._leave_gpu(place)
        size = rendered.size_bytes
        self._wait(lambda: self._may_deliver(size), waits)
        place.held_bytes = size
        self._move(place, Stage.DELIVERS)
        return rendered

    def _try_render(self, place: Place, work: Callable[[OnStep], R]) -> R | None:
        """None: it lacked memory that clips which are being delivered may hold."""
        try:
            return self._timed(place, work)
        except Exception as error:
            if classify(error).code == "out_of_memory" and self._count(Stage.DELIVERS):
                return None
            raise

    def _timed(self, place: Place, work: Callable[[OnStep], R]) -> R:
        render = self.foresight.begin(place.steps or 0, self.clock())
        place.render = render

        def on_step(step: int | None) -> None:
            if step is not None:
                render.step(self.clock())

        rendered = work(on_step)
        render.ended(self.clock())
        return rendered

    def _leave_gpu(self, place: Place) -> None:
        """Count the attempt, once: at the end of its render, or of the attempt without one."""
        if place.left_gpu_at is not None:
            return
        now = self.clock()
        with self._change:
            place.left_gpu_at, place.render, place.since = now, None, now
            added_s = now - max(place.arrived_at, self._gpu_free_at)
            self._gpu_free_at = now
        self._served(round(added_s * 1000))

    def _outlook(self, place: Place) -> tuple[float, bool]:
        """Seconds until another job may be taken, as things stand; whether the GPU is busy then."""
        if self._draining and (place.has_begun or place.stage is Stage.GONE):
            return 0.0, False
        if self._count(Stage.DELIVERS) >= DELIVERIES or self._held() > self._clip_memory:
            return inf, False
        if any(other.alone for other in self._places):
            return inf, False
        busy_s = sum(self._busy_s(other) for other in self._places)
        return max(0.0, busy_s - self.foresight.lead_s), busy_s > 0.0

    def _busy_s(self, place: Place) -> float:
        """Seconds for which an attempt will still need the GPU."""
        match place.stage:
            case Stage.DELIVERS | Stage.GONE:
                return 0.0
            case Stage.RENDERS:
                return inf if place.render is None else place.render.remaining_s(self.clock())
            case _:
                return inf if place.steps is None else self.foresight.full_s(place.steps)

    def _may_render(self, place: Place) -> bool:
        if place.alone and self._count(Stage.DELIVERS):
            return False
        return self._held() <= self._clip_memory

    def _may_deliver(self, size: int) -> bool:
        delivering = self._count(Stage.DELIVERS)
        fits = self._held() + size <= self._clip_memory
        return delivering == 0 or (delivering < DELIVERIES and fits)

    def _held(self) -> int:
        return sum(place.held_bytes for place in self._places)

    def _count(self, stage: Stage) -> int:
        with self._change:
            return sum(place.stage is stage for place in self._places)

    def _move(self, place: Place, stage: Stage) -> None:
        with self._change:
            place.stage, place.since = stage, self.clock()
            self._change.notify_all()

    def _wait(self, ready: Callable[[], bool], waits: Callable[[], None] = lambda: None) -> None:
        """Wait until `ready()`. One thread waits for each thing, so what is ready stays so."""
        while True:
            with self._change:
                if self._change.wait_for(ready, CHECK_S):
                    return
            waits()
