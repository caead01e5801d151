"""The load benchmark's own measurements: due times, what counts, and the bottleneck."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from app.planning.traces import Rates, Requests
from scripts.benchmarks.load_clients import arrivals, percentile, submit_all
from scripts.benchmarks.load_knee import FIRST_RATE, MOST_RATE, climb, knee
from scripts.benchmarks.load_step import Step
from scripts.benchmarks.load_watch import Use

STALL_S = 0.6


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def stalling() -> Iterator[str]:
    """A server that answers at once, except for its third request."""
    served = iter(range(1_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            n = next(served)
            self.rfile.read(int(self.headers["Content-Length"]))
            if n == 2:
                time.sleep(STALL_S)
            body = b'{"id": "%d"}' % n
            self.send_response(503 if n == 5 else 202)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_stall_counts_for_every_job_that_came_due_during_it(stalling):
    times = np.arange(8) * 0.05
    _, submits = submit_all(stalling, "key", times, ["us-east"] * 8, connections=1)
    late = [each.latency_ms for each in submits]
    for n in range(2, 8):
        left_ms = (STALL_S - 0.05 * (n - 2)) * 1000
        assert late[n] >= left_ms - 1, "measured from when it was sent, not from when it was due"
    assert [each.job_id is None for each in submits] == [n == 5 for n in range(8)]


def test_with_a_free_connection_no_job_waits_for_anothers_answer(stalling):
    times = np.arange(8) * 0.05
    _, submits = submit_all(stalling, "key", times, ["us-east"] * 8, connections=8)
    assert max(each.latency_ms for each in submits) >= STALL_S * 1000 - 1
    assert submits[-1].answered_s < submits[2].answered_s


def test_no_trace_means_poisson_arrivals():
    assert len(arrivals(None, 50.0, 100.0, rng())) == pytest.approx(5_000, abs=300)


def test_the_part_of_a_trace_at_its_mean_rate_is_replayed_at_the_requested_rate():
    quiet, busy = np.linspace(0, 99, 10), np.full(400, 100.0)
    # Two clumps, together at the trace's mean of 1.06/s; the rest of the trace is far from it.
    clumps = np.concatenate([np.full(6, 200.5), np.full(6, 207.5)])
    times = np.concatenate([quiet, busy, clumps, [400.0]])
    due = arrivals(Requests(times, np.zeros(423, dtype=np.int64)), 100.0, 10.0, rng())
    first, second = (due < 1.0).sum(), ((due >= 7.0) & (due < 8.0)).sum()
    assert first + second == len(due) == pytest.approx(1_000, abs=120)
    assert first == pytest.approx(500, abs=90)


def test_a_day_of_rates_is_compressed_into_one_step():
    rates = Rates(600.0, np.array([[1.0, 3.0]]))
    due = arrivals(rates, 100.0, 20.0, rng())
    assert (due < 10.0).sum() == pytest.approx(500, abs=100)
    assert (due >= 10.0).sum() == pytest.approx(1_500, abs=160)


def test_a_percentile_is_an_observed_value():
    assert percentile(np.array([1.0, 2.0, 100.0]), 0.99) == 100.0
    assert percentile(np.array([]), 0.5) == float("inf")


def use(machine=0.5, hottest=0.3, sessions=None, **live) -> Use:
    return Use(2, machine, {"api": hottest}, ("api", hottest), sessions or {}, live, workers=4)


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        (use(machine=0.95, hottest=0.99), "processors: 95% of 2 cores"),
        (use(hottest=0.97), "one process: api uses 0.97"),
        (use(sessions={"running": 3.0, "IO WalSync": 2.1}), "Postgres: 2.1 sessions"),
        (use(queued=50.0, processing=3.9), "workers: 3.9 of 4 render while 50 jobs wait"),
        (use(queued=50.0, processing=0.5), "placement: 50 jobs wait and only 0.5"),
        (use(sessions={"running": 3.0}, queued=1.0), "nothing is saturated: 50% of 2 cores"),
    ],
)
def test_the_first_saturated_resource_is_named(measured, sentence):
    assert measured.bottleneck().startswith(sentence)


def test_other_processes_use_the_remainder():
    assert use(machine=0.9, hottest=0.3).others == pytest.approx(1.5)


def step(rate: float, p99_ms: float = 10.0, success: float = 1.0) -> Step:
    took = np.full(100, p99_ms)
    return Step(rate, took, took, 0.0, success, {}, use())


def test_the_knee_is_the_highest_rate_that_passed():
    steps = [step(5), step(10, p99_ms=101.0), step(10, p99_ms=100.0), step(15, p99_ms=101.0)]
    assert knee(steps).rate == 10
    assert knee([step(5), step(10, success=0.998)]).rate == 5
    assert knee([step(5, p99_ms=300.0), step(10)]).rate == 10
    assert knee([step(5, p99_ms=300.0)]) is None


class Machine:
    """Passes up to its knee, except in the holds that stall."""

    def __init__(self, true_knee: float, stalls: Callable[[int], bool] = lambda hold: False):
        self._knee = true_knee
        self._stalls = stalls
        self.rates: list[float] = []

    def hold(self, rate: float) -> Step:
        self.rates.append(rate)
        fails = rate > self._knee or self._stalls(len(self.rates) - 1)
        return step(rate, p99_ms=500.0 if fails else 10.0)


@pytest.mark.parametrize("true_knee", [5.5, 37.0, 410.0])
def test_the_climb_finds_the_knee_within_the_refined_step(true_knee):
    steps = climb(Machine(true_knee).hold, 1.5, 2)
    assert true_knee / 1.5**0.25 < knee(steps).rate <= true_knee
    assert [each.rate for each in steps] == sorted(each.rate for each in steps)


@pytest.mark.parametrize("start", range(12))
def test_two_stalled_holds_in_a_row_do_not_end_the_climb(start):
    """Wherever they fall: both tries of one rate, or one each of two rates."""
    machine = Machine(42.0, stalls=lambda hold: start <= hold < start + 2)
    found = knee(climb(machine.hold, 1.5, 2)).rate
    assert 42.0 / 1.5**0.5 < found <= 42.0, machine.rates


def test_a_machine_that_stalls_in_every_other_hold_has_the_same_knee():
    steady, stalling = Machine(42.0), Machine(42.0, stalls=lambda hold: hold % 2 == 0)
    expected = knee(climb(steady.hold, 1.5, 2)).rate
    assert knee(climb(stalling.hold, 1.5, 2)).rate == expected


def test_a_climb_ends_if_nothing_passes_and_if_everything_does():
    failing = Machine(0.0)
    climb(failing.hold, 2.0, 2)
    assert failing.rates == [FIRST_RATE, FIRST_RATE, 2 * FIRST_RATE, 2 * FIRST_RATE]
    rates = [each.rate for each in climb(step, 2.0, 2)]
    assert MOST_RATE / 2 < rates[-1] <= MOST_RATE
