"""Worlds for planning and simulation: random points on the globe, and a few real places."""

from collections.abc import Mapping

import numpy as np

from app.domain.routing.load import Load, RegionLoad
from app.domain.routing.topology import Region, Rings, Topology

EARTH_KM = 6371.0
KM_PER_MS = 100.0  # per ms of round trip: light in fibre travels 200 km/ms one way
DETOUR = 1.4  # cable length over great-circle distance

# Round trips in ms between ten places, rounded from cloud providers' figures; for demonstrations.
PLACES: Mapping[str, tuple[float, float]] = {
    "us-east": (39.0, -77.5),
    "us-central": (41.3, -95.9),
    "us-west": (45.6, -121.2),
    "sa-east": (-23.5, -46.6),
    "eu-west": (53.3, -6.3),
    "eu-central": (50.1, 8.7),
    "me-south": (26.1, 50.6),
    "ap-south": (19.1, 72.9),
    "ap-southeast": (1.3, 103.8),
    "ap-northeast": (35.7, 139.7),
}


def topology_of(places: Mapping[str, tuple[float, float]], rings: Rings | None = None) -> Topology:
    """A topology with round trips from great-circle distances; (latitude, longitude) in degrees."""
    names = list(places)
    at = np.radians(np.array([places[name] for name in names]))
    unit = np.stack(
        [
            np.cos(at[:, 0]) * np.cos(at[:, 1]),
            np.cos(at[:, 0]) * np.sin(at[:, 1]),
            np.sin(at[:, 0]),
        ],
        axis=1,
    )
    angle = np.arccos(np.clip(unit @ unit.T, -1.0, 1.0))
    rtt = np.round(1.0 + angle * EARTH_KM / KM_PER_MS * DETOUR, 3)
    rtt = np.maximum(rtt, rtt.T)
    return Topology(
        (
            Region(name, {other: float(rtt[i, j]) for j, other in enumerate(names) if i != j})
            for i, name in enumerate(names)
        ),
        rings,
    )


def known(count: int = len(PLACES)) -> Topology:
    """A topology of the first `count` PLACES."""
    return topology_of(dict(list(PLACES.items())[:count]))


def random_world(
    regions: int,
    rng: np.random.Generator,
    *,
    load: float,
    skew: float,
    service_s: float = 4.0,
    gpus: tuple[int, int] = (16, 400),
    rings: Rings | None = None,
) -> tuple[Topology, Load]:
    """Random regions on the globe whose demand does not match their workers.

    `load`: total demand over total ceilings. `skew`: log-normal sigma of demand per worker.
    """
    latitude = np.degrees(np.arcsin(rng.uniform(-1, 1, regions)))
    longitude = rng.uniform(-180, 180, regions)
    places = {f"r{i:02d}": (latitude[i], longitude[i]) for i in range(regions)}
    workers = rng.integers(*gpus, regions, endpoint=True)
    weight = workers * np.exp(rng.normal(0.0, skew, regions))
    rooms = [RegionLoad(int(c), 0.0, service_s) for c in workers]
    demand = weight / weight.sum() * load * sum(r.capacity * r.ceiling for r in rooms)
    return topology_of(places, rings), Load(
        {
            name: RegionLoad(int(c), float(d), service_s)
            for name, c, d in zip(places, workers, demand, strict=True)
        }
    )
