"""How long jobs of one profile take, learned from the latest ones that succeeded.

A job takes a fixed time, and a time for each unit of its cost. Both are fitted to all samples
together; a factor for each region accounts for faster and slower workers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

SPREAD = 0.1  # costs closer than this part of the larger one say nothing about the slope
# Of the usual job's time, the part that is assumed not to grow with frames and pixels: the shipped
# model on two cores took 2.1 s for the smallest clip, 4.5 for the default, 11.7 for the largest.
FIXED = 0.5
PRIOR = 1  # samples of another size that weigh as much as that assumption
LEAST_S = 1e-6


@dataclass(frozen=True)
class Sample:
    """A job that succeeded: its region, its cost in units, and the seconds that its worker took."""

    region: str
    cost: float
    seconds: float


@dataclass(frozen=True)
class ServiceTimes:
    """Seconds per job and per unit of cost; `speeds` multiplies both, by region."""

    fixed_s: float
    unit_s: float
    speeds: Mapping[str, float]

    def of(self, cost: float, region: str | None) -> float:
        """Seconds that a job of this cost takes. A region without samples is like the others."""
        speed = None if region is None else self.speeds.get(region)
        if speed is None:
            speed = sum(self.speeds.values()) / len(self.speeds)
        return speed * _line(self.fixed_s, self.unit_s, cost)


def learn(samples: Sequence[Sample]) -> ServiceTimes | None:
    """Fit to these samples. None if there are none.

    The slope is Theil and Sen's, the median over all pairs of samples from one region, so single
    outliers do not matter. While nearly all jobs have one size, it is mostly FIXED that decides.
    """
    if not samples:
        return None
    usual_s = median(sample.seconds for sample in samples)
    usual = median(sample.cost for sample in samples)
    slopes = [
        (b.seconds - a.seconds) / (b.cost - a.cost)
        for a, b in combinations(samples, 2)
        if a.region == b.region and _differ(a.cost, b.cost)
    ]
    others = sum(_differ(sample.cost, usual) for sample in samples) if slopes else 0
    measured = max(0.0, median(slopes)) if slopes else 0.0
    unit_s = (others * measured + PRIOR * (1.0 - FIXED) * usual_s / usual) / (others + PRIOR)
    fixed_s = median(sample.seconds - unit_s * sample.cost for sample in samples)
    if fixed_s < 0.0:
        unit_s, fixed_s = median(sample.seconds / sample.cost for sample in samples), 0.0
    speeds: dict[str, list[float]] = {}
    for sample in samples:
        speed = sample.seconds / _line(fixed_s, unit_s, sample.cost)
        speeds.setdefault(sample.region, []).append(speed)
    by_region = {region: median(found) for region, found in speeds.items()}
    return ServiceTimes(fixed_s, unit_s, by_region)


def _line(fixed_s: float, unit_s: float, cost: float) -> float:
    return max(LEAST_S, fixed_s + unit_s * cost)


def _differ(a: float, b: float) -> bool:
    return abs(a - b) > SPREAD * max(a, b)
