"""Regions, pools and the order in which a job may try them."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import combinations
from math import inf

from app.domain.job.profiles import DEFAULT_PROFILE
from stillmotion.states import Policy

REGION_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]")


@dataclass(frozen=True)
class Region:
    """A named place with GPU workers.

    Without a URL of its own it uses the deployment's; its broker is its own Redis if it has that.
    """

    name: str
    rtt_ms: Mapping[str, float] = field(default_factory=dict)  # to every other region
    broker_url: str = ""
    redis_url: str = ""


@dataclass(frozen=True)
class Pool:
    """The workers of one region that serve one profile; one queue each.

    With `needs`: those of them that speak this level. They take messages from its queue too, and no
    other worker does (app/domain/job/levels.py).
    """

    region: str
    profile: str
    needs: int = 0

    @property
    def queue(self) -> str:
        base = f"animate.{self.region}"
        if self.profile != DEFAULT_PROFILE:
            base = f"{base}.{self.profile}"
        return f"{base}+{self.needs}" if self.needs else base

    @property
    def whole(self) -> "Pool":
        """With its workers of every level."""
        return replace(self, needs=0)

    def up_to(self, speaks: int) -> "list[Pool]":
        """The pool at each level that a worker which speaks this one belongs to."""
        return [replace(self, needs=level) for level in range(speaks + 1)]

    def __str__(self) -> str:
        return f"{self.region}/{self.profile}"  # of every level alike


class Ring(IntEnum):
    """The regions within a round-trip bound of home; each ring contains those before it."""

    HOME = 0
    NEAR = 1
    FAR = 2
    ANY = 3


@dataclass(frozen=True)
class Rings:
    """Where the rings end, and how overloaded a home must be to use one.

    Round trips in ms. Overload is utilisation over ceiling with all demand at home; a region that
    is down is infinitely overloaded. `widen`: demand that fits nowhere inside its rings may go
    further, rather than stay above the ceiling of its home.
    """

    near_ms: float = 40.0
    far_ms: float = 100.0
    near_up_to: float = 1.10  # overload; home alone up to 1
    far_up_to: float = 1.30
    widen: bool = True

    def ring(self, rtt_ms: float) -> Ring:
        """The innermost ring for another region at this round trip."""
        if rtt_ms <= self.near_ms:
            return Ring.NEAR
        return Ring.FAR if rtt_ms <= self.far_ms else Ring.ANY

    def reach(self, overload: float) -> Ring:
        """The outermost ring that this overload opens."""
        if overload <= 1.0:
            return Ring.HOME
        if overload <= self.near_up_to:
            return Ring.NEAR
        return Ring.FAR if overload <= self.far_up_to else Ring.ANY


class TopologyError(ValueError):
    """One sentence on why regions do not fit together.

    `where` is the path of the value at fault, in the shape of a regions file:
    ("region", 1, "rtt_ms", "us-east").
    """

    def __init__(self, sentence: str, where: tuple[str | int, ...]):
        super().__init__(sentence)
        self.sentence = sentence
        self.where = where


def errors_in(regions: Sequence[Region], rings: Rings) -> Iterator[TopologyError]:
    """Everything that keeps these regions from forming a topology."""
    if not regions:
        yield TopologyError("no region is configured", ("region",))
    numbers: dict[str, int] = {}
    for n, region in enumerate(regions):
        if not REGION_NAME.fullmatch(region.name):
            yield TopologyError(
                f"region name {region.name!r} must be 2-32 of a-z, 0-9 and '-', from a letter",
                ("region", n, "name"),
            )
        if region.name in numbers:
            yield TopologyError(
                f"two regions share one name, {region.name!r}", ("region", n, "name")
            )
        numbers.setdefault(region.name, n)
    for n, region in enumerate(regions):
        for other, rtt in region.rtt_ms.items():
            where = ("region", n, "rtt_ms", other)
            if other == region.name:
                yield TopologyError(f"region {other!r} names itself as a neighbour", where)
            elif other not in numbers:
                yield TopologyError(
                    f"region {region.name!r} names unknown neighbour {other!r}", where
                )
            elif not 0 <= rtt < inf:
                yield TopologyError(
                    f"the round trip {region.name!r}-{other!r} must be >= 0 ms", where
                )
    for a, b in combinations(numbers, 2):
        there, back = (regions[numbers[x]].rtt_ms.get(y) for x, y in ((a, b), (b, a)))
        if there is None or back is None:
            silent = a if there is None else b
            yield TopologyError(
                f"the round trip between {a!r} and {b!r} is missing at {silent!r}",
                ("region", numbers[silent], "rtt_ms"),
            )
        elif there != back:
            yield TopologyError(
                f"the round trips {a!r}-{b!r} and back differ: {there:g} and {back:g} ms",
                ("region", numbers[b], "rtt_ms", a),
            )
    if not 0 <= rings.near_ms <= rings.far_ms < inf:
        yield TopologyError("the rings need 0 <= near_ms <= far_ms", ("rings", "far_ms"))
    if not 1.0 <= rings.near_up_to <= rings.far_up_to < inf:
        yield TopologyError("the rings need 1 <= near_up_to <= far_up_to", ("rings", "far_up_to"))


class Topology:
    """Every region of the deployment and the round trips between them.

    Raises TopologyError if names or round trips do not fit together.
    """

    def __init__(self, regions: Iterable[Region], rings: Rings | None = None):
        self.rings = rings or Rings()
        listed = list(regions)
        for error in errors_in(listed, self.rings):
            raise error
        self._regions = {region.name: region for region in listed}
        # Computed once: every job asks.
        self._outwards = {name: self._sorted_outwards(name) for name in self._regions}
        self._within = {
            (name, ring): tuple(o for o in self._outwards[name][1:] if self.ring(name, o) <= ring)
            for name in self._regions
            for ring in Ring
        }

    @property
    def names(self) -> list[str]:
        return list(self._regions)

    def __contains__(self, name: object) -> bool:
        return name in self._regions

    def __getitem__(self, name: str) -> Region:
        return self._regions[name]

    def by_round_trip(self, home: str) -> list[str]:
        """Every region, `home` first, then the nearest; ties by name, so the order is stable."""
        return list(self._outwards[home])

    def _sorted_outwards(self, home: str) -> list[str]:
        rtt = self._regions[home].rtt_ms
        others = sorted((name for name in self._regions if name != home), key=lambda n: (rtt[n], n))
        return [home, *others]

    def rtt_ms(self, home: str, other: str) -> float:
        """Round trip in ms; 0 within a region."""
        return 0.0 if home == other else self._regions[home].rtt_ms[other]

    def ring(self, home: str, other: str) -> Ring:
        """The innermost ring around `home` that holds `other`."""
        return Ring.HOME if home == other else self.rings.ring(self.rtt_ms(home, other))

    def within(self, home: str, ring: Ring) -> tuple[str, ...]:
        """The other regions in this ring of `home`, the nearest first."""
        return self._within[home, ring]

    def after_failure(
        self, failed_in: str, home: str, policy: Policy, allowed: Collection[str] | None
    ) -> str:
        """The region to try first after an attempt failed in `failed_in`: another, if allowed."""
        if policy is Policy.STRICT:
            return home
        others = (
            name
            for name in self.by_round_trip(home)
            if name != failed_in and (allowed is None or name in allowed)
        )
        return next(others, home)
