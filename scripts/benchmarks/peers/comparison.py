"""Measures peers in turn with our stack and derives the figures."""

import http.client
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psycopg

from scripts.benchmarks.figures import Figure
from scripts.benchmarks.flushes import Chain, FlushTimes
from scripts.benchmarks.peers.durable import Plain, Procrastinate
from scripts.benchmarks.peers.environment import PeerUnavailable, interpreter
from scripts.benchmarks.peers.peer import Peer
from scripts.benchmarks.peers.systems import BentoML, Ray
from scripts.benchmarks.systems import WARM_UP_JOBS, burst, latencies
from scripts.stack import StackError
from scripts.stack.data import choose_directory
from scripts.stack.stack import Stack


class Targets(NamedTuple):
    """Ours relative to a peer's."""

    done_at_most: float
    burst_at_least: float


# The first two make our promise; the others keep less, and their figures say what they lose.
PEERS: dict[type[Peer], Targets] = {
    Procrastinate: Targets(1.0, 1.0),
    Plain: Targets(1.0, 1.0),
    BentoML: Targets(2.2, 0.4),
    Ray: Targets(1.4, 1.0),
}
OURS = Chain(objects=2, commits=2)  # picture, row, clip, end
OURS_OVER_BOUND = 1.3


@dataclass
class Samples:
    """Measurements of one peer so far, or why there are none."""

    durability: str
    chain: Chain
    dones_ms: list[float] = field(default_factory=list)
    bursts: list[float] = field(default_factory=list)
    skipped: str = ""


class Comparison:
    """The peers and their measurements. Creates their environments on first use, in minutes.

    A peer that cannot be installed, or fails in a turn, is left out with a message; its figures
    then have no value.
    """

    def __init__(self) -> None:
        self._samples = {kind.name: Samples(kind.durability, kind.chain) for kind in PEERS}
        self._pythons: dict[str, Path] = {}
        self._flush_times = FlushTimes()
        folder = choose_directory(os.environ)[0] / "peers"
        for kind in PEERS:
            try:
                self._pythons[kind.name] = interpreter(kind.name, folder)
            except PeerUnavailable as error:
                self._skip(kind.name, error)

    def turn(self, stack: Stack, jobs: int, burst_jobs: int) -> None:
        """Start each peer next to the stack's services, measure it, and stop it.

        Measures the disk as well, before the first of them.
        """
        self._flush_times.measure(stack.data.path)
        for kind in PEERS:
            samples = self._samples[kind.name]
            if samples.skipped:
                continue
            try:
                with kind(self._pythons[kind.name], stack) as peer:
                    latencies(peer.client(), WARM_UP_JOBS)
                    samples.dones_ms += latencies(peer.client(), jobs)[1]
                    samples.bursts.append(burst(peer, burst_jobs))
            except (
                StackError,
                RuntimeError,
                OSError,
                http.client.HTTPException,
                psycopg.Error,
            ) as error:
                self._skip(kind.name, error)

    def figures(self, done_p50_ms: float, burst_rate: float) -> list[Figure]:
        """The disk, the peers' figures, and ours relative to theirs."""
        return [
            *bounded(self._flush_times, done_p50_ms),
            *(
                figure
                for kind, targets in PEERS.items()
                for figure in compared(
                    kind.name,
                    self._samples[kind.name],
                    done_p50_ms,
                    burst_rate,
                    targets,
                    self._flush_times,
                )
            ),
        ]

    def _skip(self, name: str, error: Exception) -> None:
        self._samples[name].skipped = f"not measured: {error}"
        print(f"{name} {self._samples[name].skipped}", file=sys.stderr)


def bounded(times: FlushTimes, done_p50_ms: float) -> list[Figure]:
    """How long the disk and loopback take, and our latency relative to what they allow."""
    bound = times.bound_ms(OURS)
    return [
        Figure("object_flush_ms", times.object_ms, note="a new file of 60 kB, one fsync"),
        Figure("commit_flush_ms", times.commit_ms, note="a page of a log, one fdatasync"),
        Figure("round_trip_ms", times.round_trip_ms, note="one byte over loopback TCP"),
        Figure("done_bound_ms", bound, note=described(OURS)),
        Figure("done_p50_over_bound", done_p50_ms / bound, at_most=OURS_OVER_BOUND),
    ]


def compared(
    name: str,
    samples: Samples,
    done_p50_ms: float,
    burst_rate: float,
    targets: Targets,
    times: FlushTimes,
) -> list[Figure]:
    """A peer's figures, and the ratios of ours to them with their targets."""
    if samples.skipped:
        done = rate = None
    else:
        done, rate = median(samples.dones_ms), median(samples.bursts)
    over, ahead = done and done_p50_ms / done, rate and burst_rate / rate
    return [
        Figure(f"{name}_done_p50_ms", done, note=samples.skipped or samples.durability),
        Figure(
            f"{name}_done_bound_ms", times.bound_ms(samples.chain), note=described(samples.chain)
        ),
        Figure(f"{name}_burst_jobs_per_s", rate),
        Figure(f"done_p50_over_{name}", over, at_most=targets.done_at_most),
        Figure(f"burst_over_{name}", ahead, at_least=targets.burst_at_least),
    ]


def described(chain: Chain) -> str:
    """The flushes of a chain, for a note."""
    return f"in a row: {chain.objects} objects, {chain.commits} commits, a round trip for each"
