"""Measures peers in turn with our stack and derives the figures."""

import http.client
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from scripts.benchmarks.figures import Figure
from scripts.benchmarks.peers.environment import PeerUnavailable, interpreter
from scripts.benchmarks.peers.systems import PEERS
from scripts.benchmarks.systems import WARM_UP_JOBS, burst, latencies
from scripts.stack import StackError
from scripts.stack.data import choose_directory
from scripts.stack.stack import Stack


@dataclass
class Samples:
    """Measurements of one peer so far, or why there are none."""

    durability: str
    dones_ms: list[float] = field(default_factory=list)
    bursts: list[float] = field(default_factory=list)
    skipped: str = ""


class Comparison:
    """The peers and their measurements. Creates their environments on first use, in minutes.

    A peer that cannot be installed, or fails in a turn, is left out with a message; its figures
    then have no value.
    """

    def __init__(self) -> None:
        self._samples = {kind.name: Samples(kind.durability) for kind in PEERS}
        self._pythons: dict[str, Path] = {}
        folder = choose_directory(os.environ)[0] / "peers"
        for kind in PEERS:
            try:
                self._pythons[kind.name] = interpreter(kind.name, folder)
            except PeerUnavailable as error:
                self._skip(kind.name, error)

    def turn(self, stack: Stack, jobs: int, burst_jobs: int) -> None:
        """Start each peer next to the stack's services, measure it, and stop it."""
        for kind in PEERS:
            samples = self._samples[kind.name]
            if samples.skipped:
                continue
            try:
                with kind(self._pythons[kind.name], stack) as peer:
                    latencies(peer.client(), WARM_UP_JOBS)
                    samples.dones_ms += latencies(peer.client(), jobs)[1]
                    samples.bursts.append(burst(peer, burst_jobs))
            except (StackError, RuntimeError, OSError, http.client.HTTPException) as error:
                self._skip(kind.name, error)

    def figures(self, done_p50_ms: float, burst_rate: float) -> list[Figure]:
        """The peers' figures, and ours relative to theirs."""
        return [
            *compared("bentoml", self._samples["bentoml"], done_p50_ms, burst_rate, 2.5, 0.4),
            *compared("ray", self._samples["ray"], done_p50_ms, burst_rate, 1.0, 1.0),
        ]

    def _skip(self, name: str, error: Exception) -> None:
        self._samples[name].skipped = f"not measured: {error}"
        print(f"{name} {self._samples[name].skipped}", file=sys.stderr)


def compared(
    name: str,
    samples: Samples,
    done_p50_ms: float,
    burst_rate: float,
    at_most: float,
    at_least: float,
) -> list[Figure]:
    """A peer's two figures, and the ratio of ours to them with its target."""
    if samples.skipped:
        done = rate = None
    else:
        done, rate = median(samples.dones_ms), median(samples.bursts)
    return [
        Figure(f"{name}_done_p50_ms", done, note=samples.skipped or samples.durability),
        Figure(f"{name}_burst_jobs_per_s", rate),
        Figure(f"done_p50_over_{name}", done and done_p50_ms / done, at_most=at_most),
        Figure(f"burst_over_{name}", rate and burst_rate / rate, at_least=at_least),
    ]
