"""Regional reports as they arrive, and the load that the controller makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite

from app.domain.routing.capacity import ceiling, load_cost
from app.domain.routing.topology import Topology

SMALL_POOL = 8  # fewer ready workers than this: no shares
CLOCK_SKEW_S = 5.0  # a report may seem to come from the future by this much
REPORT_FRESH_S = 15.0  # without a report for this long, a region's state is unknown


class ReportRefused(ValueError):
    """One sentence; `reason` is the label of the metric that counts refusals."""

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Report:
    """One region's state. Rates per second, times in seconds, `sent_at` Unix time."""

    region: str
    sequence: int  # grows with every report of the region
    sent_at: float
    ready: int  # workers that are warm and not draining, busy ones included
    busy: int
    waiting: int
    demand: float  # jobs/s submitted with this home region, before any routing
    service_s: float
    pinned: float = 0.0  # the part of `demand` that may not leave home


def accept(report: Report, last: Report | None, now: float, topology: Topology) -> None:
    """Raise ReportRefused unless `report` may replace `last`, the newest one of its region."""
    name = report.region
    if name not in topology:
        raise ReportRefused("unknown_region", f"No region is called {name!r}.")
    numbers = (
        *(report.sent_at, report.ready, report.busy, report.waiting),
        *(report.demand, report.service_s, report.pinned),
    )
    if not all(isfinite(number) and number >= 0 for number in numbers):
        raise ReportRefused("bad_number", f"The report of {name} holds a number below 0.")
    if report.busy > report.ready:
        raise ReportRefused(
            "bad_number", f"The report of {name} has {report.busy} of {report.ready} workers busy."
        )
    if report.pinned > report.demand:
        raise ReportRefused(
            "bad_number", f"The report of {name} pins more demand to home than it has."
        )
    if report.sent_at > now + CLOCK_SKEW_S:
        ahead = report.sent_at - now
        raise ReportRefused("future", f"The report of {name} is {ahead:.0f} s from the future.")
    if last is not None and report.sequence <= last.sequence:
        raise ReportRefused(
            "old_sequence",
            f"The report of {name} has sequence {report.sequence}, after {last.sequence}.",
        )


def fresh(report: Report | None, now: float) -> bool:
    """Whether a region's newest report is young enough to be believed."""
    return report is not None and now - report.sent_at <= REPORT_FRESH_S


@dataclass(frozen=True)
class RegionLoad:
    """One region's side of the routing problem. Rates in jobs/s, times in seconds."""

    ready: int
    demand: float
    service_s: float
    pinned: float = 0.0  # the part of `demand` that may not leave home
    busy: int = 0  # observed; only spare slots depend on it
    cost: float | None = None  # utilisation per job/s; None: Little's law
    ramp: float = 1.0  # the part of the capacity to count on
    cap: float | None = None  # an operator's ceiling
    drained: bool = False

    @cached_property
    def capacity(self) -> float:
        """Jobs/s at utilisation 1."""
        if self.ready < 1 or self.drained:
            return 0.0
        cost = load_cost(self.ready, self.service_s) if self.cost is None else self.cost
        return self.ramp / cost

    @cached_property
    def ceiling(self) -> float:
        """The utilisation that the region may be planned to."""
        return min(ceiling(self.ready), 1.0 if self.cap is None else self.cap)

    @property
    def small(self) -> bool:
        """One busy worker of one is not overload: such a pool takes no part in shares."""
        return self.capacity > 0.0 and self.ready < SMALL_POOL


NOTHING = RegionLoad(ready=0, demand=0.0, service_s=1.0)


@dataclass(frozen=True)
class Load:
    """Every region's load. `allowed`: where a home's demand may go at all (data residency);
    a home missing from it may use every region. Home itself is always allowed."""

    regions: Mapping[str, RegionLoad]
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def permits(self, home: str, target: str) -> bool:
        return home == target or home not in self.allowed or target in self.allowed[home]

    def of(self, name: str) -> RegionLoad:
        """A region's load; an unknown region has neither workers nor demand."""
        return self.regions.get(name) or NOTHING

    @property
    def demand(self) -> float:
        """Jobs/s of all regions together."""
        return sum(region.demand for region in self.regions.values())
