"""The stages of a worker: who may do what at once, and when another job may be taken."""

import time
from threading import Event, Thread
from types import SimpleNamespace

import pytest

from app.domain.errors import Canceled, DatabaseUnavailable, RenderFailed
from tests.support.gpu_worker import AlwaysSoon
from workers.gpu.stages import Stage, Stages

PATIENCE_S = 10.0
MB = 2**20


class Attempt:
    """An attempt whose stages wait for the test."""

    def __init__(self, stages, *, steps=1, alone=False, size=0, render=None):
        self.stages, self.steps, self.alone, self.size = stages, steps, alone, size
        self.renders, self.rendered, self.delivered = Event(), Event(), Event()
        self.place = None
        self.stop = None
        self._render = render or self._wait_for_test
        self.taken = Event()
        self.error = None
        self._thread = Thread(target=self._take, daemon=True)

    def start(self, wanted=lambda: True):
        self.wanted = wanted
        self._thread.start()
        return self

    def at(self, stage):
        until(lambda: self.place is not None and self.place.stage is stage)
        return self

    def finish(self):
        self.rendered.set()
        self.delivered.set()

    def _take(self):
        try:
            self.stages.take(self._run, wanted=self.wanted)
        except Exception as error:
            self.error = error
        self.taken.set()

    def _run(self, place):
        self.place = place
        self.stages.wait_to_prepare(place)
        self.stages.begun(place, steps=self.steps, waited_s=0.0, alone=self.alone)
        self.stages.render(place, self._render, self._waits)
        assert self.delivered.wait(PATIENCE_S)

    def _wait_for_test(self, on_step):
        self.renders.set()
        assert self.rendered.wait(PATIENCE_S)
        return SimpleNamespace(size_bytes=self.size)

    def _waits(self):
        if self.stop is not None:
            raise self.stop


def until(check):
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def never(check, for_s=0.3):
    """`check()` stays false for a while."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert not check()
        time.sleep(0.01)


@pytest.fixture
def stages():
    stages = Stages(clip_memory=100 * MB, foresight=AlwaysSoon())
    yield stages
    stages.drain()


def start(stages, count, **options):
    return [Attempt(stages, **options) for _ in range(count)]


def test_one_prepares_one_renders_two_deliver(stages):
    a, b, c, d, e, f = start(stages, 6)
    a.start().at(Stage.RENDERS)
    a.rendered.set()
    a.at(Stage.DELIVERS)
    b.start().at(Stage.RENDERS)
    b.rendered.set()
    b.at(Stage.DELIVERS)
    c.start().at(Stage.RENDERS)
    d.start().at(Stage.PREPARES)
    e.start().at(Stage.ARRIVED)
    assert a.taken.wait(PATIENCE_S)
    c.rendered.set()
    never(lambda: c.place.stage is Stage.DELIVERS or d.renders.is_set())
    assert e.place.stage is Stage.ARRIVED
    a.delivered.set()
    c.at(Stage.DELIVERS)
    d.at(Stage.RENDERS)
    e.at(Stage.PREPARES)
    for attempt in (b, c, d, e):
        attempt.finish()
    f.start().at(Stage.RENDERS).finish()
    assert f.taken.wait(PATIENCE_S)


def test_two_prepare_where_a_hand_over_outlasts_a_render():
    class Abreast(AlwaysSoon):
        abreast = 2

    stages = Stages(clip_memory=100 * MB, foresight=Abreast())
    a, b, c, d, e = start(stages, 5)
    a.start().at(Stage.RENDERS)
    b.start().at(Stage.PREPARES)
    c.start().at(Stage.PREPARES)
    d.start().at(Stage.ARRIVED)
    never(lambda: d.place.stage is Stage.PREPARES)
    a.rendered.set()
    b.at(Stage.RENDERS)  # in the order in which they were ready
    d.at(Stage.PREPARES)
    e.start().at(Stage.ARRIVED)
    assert c.place.stage is Stage.PREPARES
    c.stop = Canceled("Canceled.")
    c.at(Stage.GONE)
    e.at(Stage.PREPARES)
    for attempt in (a, b, d, e):
        attempt.finish()
    assert e.taken.wait(PATIENCE_S)
    assert not c.renders.is_set()
    stages.drain()


def test_no_job_is_taken_after_two_undelivered_clips(stages):
    a, b, c = start(stages, 3)
    for attempt in (a, b):
        attempt.start().at(Stage.RENDERS)
        attempt.rendered.set()
        attempt.at(Stage.DELIVERS)
    c.start().at(Stage.RENDERS)
    never(c.taken.is_set)
    c.rendered.set()
    never(c.taken.is_set)
    a.delivered.set()
    c.at(Stage.DELIVERS)
    never(c.taken.is_set)
    b.delivered.set()
    assert c.taken.wait(PATIENCE_S)
    c.delivered.set()


def test_a_job_is_taken_early_only_if_jobs_wait_and_nobody_is_idle(stages):
    answers = []
    [a] = start(stages, 1)
    a.start(wanted=lambda: bool(answers)).at(Stage.RENDERS)
    never(a.taken.is_set)
    answers.append(True)
    assert a.taken.wait(PATIENCE_S)
    assert a.place.stage is Stage.RENDERS
    a.finish()


def test_a_free_gpu_takes_a_job_while_the_last_is_delivered(stages):
    [a] = start(stages, 1)
    a.start(wanted=lambda: False).at(Stage.RENDERS)
    a.rendered.set()
    assert a.taken.wait(PATIENCE_S)
    assert a.place.stage is Stage.DELIVERS
    a.finish()


def test_an_attempt_that_is_stopped_while_it_waits_never_gets_the_gpu(stages):
    a, b, c = start(stages, 3)
    a.start().at(Stage.RENDERS)
    b.start().at(Stage.PREPARES)
    b.stop = Canceled("stop")
    b.at(Stage.GONE)
    assert not b.renders.is_set()
    c.start().at(Stage.PREPARES)
    a.finish()
    c.at(Stage.RENDERS).finish()
    assert not b.renders.is_set()


def test_a_second_attempt_renders_and_delivers_alone(stages):
    a, b = start(stages, 1) + start(stages, 1, alone=True)
    a.start().at(Stage.RENDERS)
    b.start().at(Stage.PREPARES)
    a.rendered.set()
    a.at(Stage.DELIVERS)
    never(b.renders.is_set)
    a.delivered.set()
    b.at(Stage.RENDERS)
    b.rendered.set()
    b.at(Stage.DELIVERS)
    never(b.taken.is_set)
    b.delivered.set()
    assert b.taken.wait(PATIENCE_S)


def test_a_clip_larger_than_the_memory_is_delivered_before_the_next_renders(stages):
    a, b = start(stages, 1, size=101 * MB) + start(stages, 1)
    a.start().at(Stage.RENDERS)
    b.start().at(Stage.PREPARES)
    a.rendered.set()
    a.at(Stage.DELIVERS)
    never(b.renders.is_set)
    stages.encoded(a.place)
    b.at(Stage.RENDERS)
    a.finish(), b.finish()


def test_a_render_without_memory_beside_a_delivery_is_repeated_once_alone(stages):
    calls = []

    def render(on_step):
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise RenderFailed("no memory", code="out_of_memory")
        return SimpleNamespace(size_bytes=0)

    a, b = start(stages, 1) + start(stages, 1, render=render)
    a.start().at(Stage.RENDERS)
    a.rendered.set()
    a.at(Stage.DELIVERS)
    b.start()
    until(lambda: calls)
    never(lambda: len(calls) > 1)
    a.delivered.set()
    b.at(Stage.DELIVERS)
    assert len(calls) == 2
    b.finish()


def test_a_render_without_memory_fails_if_it_is_alone(stages):
    def render(on_step):
        raise RenderFailed("no memory", code="out_of_memory")

    [a] = start(stages, 1, render=render)
    a.start(wanted=lambda: False)
    assert a.taken.wait(PATIENCE_S)
    assert isinstance(a.error, RenderFailed)


def test_take_raises_what_ended_the_attempt_before_it_returned(stages):
    def run(place):
        raise DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        stages.take(run, wanted=lambda: False)


def test_a_draining_worker_holds_no_message_and_ends_when_its_attempts_have(stages):
    a, b = start(stages, 2)
    a.start().at(Stage.RENDERS)
    b.start(wanted=lambda: False).at(Stage.PREPARES)
    never(b.taken.is_set)
    stages.drain()
    assert b.taken.wait(PATIENCE_S)
    ended = Event()
    Thread(target=lambda: (stages.join(), ended.set()), daemon=True).start()
    never(ended.is_set)
    a.finish(), b.finish()
    assert ended.wait(PATIENCE_S)


def test_the_time_of_a_job_is_what_it_adds_to_those_before_it():
    served, now = [], [0.0]
    stages = Stages(
        clip_memory=MB, served=served.append, foresight=AlwaysSoon(), clock=lambda: now[0]
    )
    a, b = start(stages, 2)
    a.start().at(Stage.RENDERS)
    now[0] = 2.0
    b.start().at(Stage.PREPARES)
    now[0] = 3.0
    a.rendered.set()
    b.at(Stage.RENDERS)
    now[0] = 4.5
    b.rendered.set()
    until(lambda: len(served) == 2)
    assert served == [3000, 1500]
    a.finish(), b.finish()
