"""Arbitrary loads and topologies for property tests of the routing table."""

from hypothesis import strategies as st

from app.domain.routing.load import Load, RegionLoad
from app.domain.routing.topology import Region, Rings, Topology


@st.composite
def topologies(draw: st.DrawFn, most: int = 8) -> Topology:
    """1 to `most` regions with arbitrary round trips between them."""
    count = draw(st.integers(1, most))
    names = [f"r{i}" for i in range(count)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    trips = draw(st.lists(st.integers(0, 300), min_size=len(pairs), max_size=len(pairs)))
    rtt = dict(zip(pairs, trips, strict=True))
    regions = [
        Region(a, {b: rtt.get((a, b), rtt.get((b, a), 0)) for b in names if b != a}) for a in names
    ]
    return Topology(regions, Rings(widen=draw(st.booleans())))


@st.composite
def region_loads(draw: st.DrawFn) -> RegionLoad:
    """Idle, hot, small, drained, capped, ramping or without workers."""
    demand = draw(st.one_of(st.just(0.0), st.floats(0.01, 200.0)))
    return RegionLoad(
        ready=draw(st.one_of(st.integers(0, 10), st.integers(8, 500))),
        demand=demand,
        service_s=draw(st.floats(0.5, 30.0)),
        pinned=demand * draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
        ramp=draw(st.sampled_from([1.0, 1.0, 0.1, 0.5])),
        cap=draw(st.sampled_from([None, None, None, 0.3, 0.0])),
        drained=draw(st.sampled_from([False, False, False, True])),
    )


@st.composite
def routing_problems(draw: st.DrawFn, most: int = 8) -> tuple[Topology, Load]:
    """A topology, a load for each region, and some allow-lists."""
    topology = draw(topologies(most))
    names = topology.names
    allowed = draw(
        st.dictionaries(st.sampled_from(names), st.frozensets(st.sampled_from(names)), max_size=2)
    )
    return topology, Load({name: draw(region_loads()) for name in names}, allowed)
