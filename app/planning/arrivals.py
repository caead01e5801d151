"""Arrival times of jobs: Poisson, diurnal, bursts, replayed traces. Sorted seconds from 0.

Callers pass in a numpy Generator, so a seed reproduces a run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
DAY_S = 86_400.0


@dataclass(frozen=True)
class Arrivals:
    """Jobs of all home regions: `times` (jobs,) sorted seconds; `homes` (jobs,) index `names`."""

    names: tuple[str, ...]
    times: Times
    homes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times)


def together(streams: Mapping[str, Times]) -> Arrivals:
    """Merge the arrivals of several homes into one sequence."""
    names = tuple(streams)
    times = np.concatenate([streams[name] for name in names])
    homes = np.concatenate([np.full(len(streams[name]), i) for i, name in enumerate(names)])
    order = np.argsort(times, kind="stable")
    return Arrivals(names, times[order], homes[order].astype(np.int64))


def poisson(rate: float, duration_s: float, rng: np.random.Generator) -> Times:
    """Independent arrivals at `rate` jobs/s."""
    count = rng.poisson(rate * duration_s)
    return np.sort(rng.uniform(0.0, duration_s, count))


def varying(
    rate: Callable[[Times], Times], peak: float, duration_s: float, rng: np.random.Generator
) -> Times:
    """Poisson arrivals at a rate that varies over time, at most `peak` (by thinning).

    Lewis and Shedler 1979.
    """
    times = poisson(peak, duration_s, rng)
    return times[rng.uniform(0.0, peak, len(times)) < rate(times)]


def diurnal(
    mean: float,
    duration_s: float,
    rng: np.random.Generator,
    *,
    swing: float = 0.6,
    phase: float = 0.0,
    day_s: float = DAY_S,
) -> Times:
    """A daily wave of (1 - swing) to (1 + swing) times `mean`. `phase` in days, for time zones."""

    def rate(times: Times) -> Times:
        return mean * (1.0 + swing * np.sin(2.0 * np.pi * (times / day_s + phase)))

    return varying(rate, mean * (1.0 + swing), duration_s, rng)


def burst(
    rate: float,
    duration_s: float,
    rng: np.random.Generator,
    *,
    start_s: float,
    length_s: float,
    factor: float,
) -> Times:
    """Poisson arrivals that run at `factor` times their rate for a while."""

    def rate_at(times: Times) -> Times:
        within = (times >= start_s) & (times < start_s + length_s)
        return rate * np.where(within, factor, 1.0)

    return varying(rate_at, rate * max(1.0, factor), duration_s, rng)


def replayed(trace: Times, rate: float, duration_s: float, rng: np.random.Generator) -> Times:
    """A trace's arrivals scaled to a mean of `rate` jobs/s, with its burstiness kept.

    Each arrival is dropped, kept or repeated a little later. Stretching time instead would smooth
    the bursts. A trace that is too short is repeated.
    """
    if len(trace) < 2 or trace[-1] <= 0.0:
        raise ValueError("a trace needs arrivals at two different times")
    span = float(trace[-1])
    rounds = int(np.ceil(duration_s / span))
    long = np.concatenate([trace + k * span for k in range(rounds)])
    long = long[long < duration_s]
    copies = rng.poisson(rate * duration_s / len(long), len(long))
    times = np.repeat(long, copies)
    times = times + np.where(np.arange(len(times)) > 0, rng.exponential(0.05, len(times)), 0.0)
    return np.sort(times[times < duration_s])


def stepped(
    rates: Times, slot_s: float, duration_s: float, rng: np.random.Generator, shift_s: float = 0.0
) -> Times:
    """Poisson arrivals that cycle through `rates` (slots,) jobs/s.

    `shift_s`: offset of time 0 into the rates, for time zones.
    """

    def rate(times: Times) -> Times:
        return rates[((times + shift_s) // slot_s).astype(np.int64) % len(rates)]

    return varying(rate, float(rates.max()), duration_s, rng)
