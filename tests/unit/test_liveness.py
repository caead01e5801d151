"""Processes that hang say so at /healthz; those that wait for a service do not."""

from threading import Event, Thread

from celery import Celery

from app.broker import heartbeat
from app.broker.heartbeat import LoopHeartbeat
from app.dispatcher.beats import Beats


def test_a_dispatcher_whose_loop_hangs_is_not_alive():
    stopping = Event()
    beats = Beats(stopping, grace_s=0.2)
    placer, reaper = beats.of("placer"), beats.of("reaper")
    assert beats.alive()
    hang = Event()

    def loop(stopping, work):
        while not stopping.wait(0.01):
            work()

    threads = [
        Thread(target=loop, args=(placer, lambda: hang.wait(20))),
        Thread(target=loop, args=(reaper, lambda: None)),
    ]
    for thread in threads:
        thread.start()
    try:
        threads[0].join(0.6)
        assert (beats.alive(), beats.stuck()) == (False, ["placer"])
    finally:
        stopping.set()
        hang.set()
        for thread in threads:
            thread.join(10)


def test_a_loop_that_means_to_wait_is_alive_meanwhile():
    beats = Beats(Event(), grace_s=0.05)
    waiting = Thread(target=beats.of("usage").wait, args=(0.5,))
    waiting.start()
    waiting.join(0.3)
    assert beats.alive()
    waiting.join()


def test_whoever_stops_a_loop_stops_all_of_them():
    stopping = Event()
    beats = Beats(stopping)
    one, other = beats.of("one"), beats.of("other")
    one.set()
    assert other.is_set() and stopping.is_set() and other.wait(1.0)


def test_a_worker_whose_loop_is_stuck_is_not_alive(monkeypatch):
    app = Celery("any", set_as_current=False)
    heart = LoopHeartbeat(app)
    [step] = app.steps["consumer"]
    assert heart.alive(), "it is still connecting"
    calls = []
    timer = type("Timer", (), {"call_repeatedly": lambda self, s, call: calls.append((s, call))})()
    consumer = type("Consumer", (), {"timer": timer})()
    beat = step.__new__(step)
    beat.start(consumer)
    assert heart.alive() and calls[0][0] == heartbeat.BEAT_S
    monkeypatch.setattr(heartbeat, "SILENT_S", -1.0)
    assert not heart.alive()
    beat.stop(consumer)
    assert heart.alive(), "without its broker a restart would not help"
