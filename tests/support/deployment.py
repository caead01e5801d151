"""Regions whose Redis and Postgres contents a test controls."""

import secrets
import time
from collections.abc import Iterable

from app.broker import traffic
from app.broker.claims import Claims
from app.broker.connections import RegionRedis
from app.broker.traffic import RegionReport, Totals
from app.config.settings import Settings
from app.domain.job.state import uuid7
from app.domain.routing.load import Report
from app.domain.routing.table import Table
from app.domain.routing.topology import Pool, Region, Topology
from app.store.job import jobs
from app.store.session import Store
from app.store.traffic import tables
from tests.support import make

NAMES = ("home", "near", "middle", "distant")
PLACES = {"home": 0, "near": 20, "middle": 80, "distant": 200}  # ms, on a line
FILE = "".join(
    f'[[region]]\nname = "{a}"\nrtt_ms = {{ '
    + ", ".join(f"{b} = {abs(PLACES[a] - PLACES[b])}" for b in NAMES if b != a)
    + " }\n"
    for a in NAMES
)
TOPOLOGY = Topology(
    Region(a, {b: abs(PLACES[a] - PLACES[b]) for b in NAMES if b != a}) for a in NAMES
)


def report(region: str, sequence: int = 1, **values: object) -> RegionReport:
    """A region with 20 workers, 10 of them busy, 4 s per job, at half load."""
    return RegionReport(
        Report(
            **{
                "region": region,
                "sequence": sequence,
                "sent_at": time.time(),
                "ready": 20,
                "busy": 10,
                "waiting": 0,
                "demand": 2.5,
                "service_s": 4.0,
            }
            | values
        ),
        Totals(),
        measured=True,
        classes={"1": 1.0, "2": 1.0},
    )


def table(version: int = 1, age_s: float = 0.0, **values: object) -> Table:
    """All demand at home and every region open to overflow; change the relevant values."""
    fields = {
        "shares": {name: {name: 1.0} for name in NAMES},
        "reach": dict.fromkeys(NAMES, 1),
        "ceilings": dict.fromkeys(NAMES, 0.9),
        "load": dict.fromkeys(NAMES, 0.5),
        "ready": dict.fromkeys(NAMES, 20),
        "spare": dict.fromkeys(NAMES, 9),
        "demand": 10.0,
    }
    return Table(version=version, created_at=time.time() - age_s, **fields | values)


class Deployment:
    """One deployment of four regions on one Redis."""

    def __init__(self, settings: Settings, store: Store):
        self.settings, self.store = settings, store
        self.redis = RegionRedis(settings)
        self.client = self.redis.of("home")
        self.claims = Claims(self.client)
        self.owner = make.owner(store)
        self.sequence = 0

    def reports(self, **by_region: dict[str, object]) -> None:
        """Publish a new report for every region."""
        self.sequence += 1
        for name in NAMES:
            one = report(name, self.sequence, **by_region.get(name, {}))
            traffic.write_report(self.client, one)

    def publish(self, made: Table) -> None:
        """Put a table in force, as a leader does."""
        with self.store.begin() as tx:
            tables.publish(tx, made, "test")
        traffic.write_table(self.client, made.to_json())

    def idle(self, region: str, count: int) -> None:
        self._announce(region, [f"{region}-{n}" for n in range(count)], ("idle", "ready"))

    def busy(self, region: str, count: int) -> None:
        self._announce(region, [f"{region}-busy-{n}" for n in range(count)], ("ready",))

    def _announce(self, region: str, workers: list[str], sets: tuple[str, ...]) -> None:
        """As workers do, but once for the whole test: a worker's entry expires after 3 s."""
        until_ms = int((time.time() + 600) * 1000)
        for each in sets:
            key = f"{{{Pool(region, 'noop')}}}:{each}"
            self.client.zadd(key, dict.fromkeys(workers, until_ms))

    def submit(self, count: int = 1, age_s: float = 0.0, **changes: object) -> list:
        """Create waiting jobs with home `home`, submitted `age_s` ago; oldest first."""
        values = {"home_region": "home"} | changes
        now_ms = time.time_ns() // 1_000_000 - int(age_s * 1000)
        made = [
            make.new_job(self.owner, **{"id": uuid7(now_ms + n, secrets.randbits(74))} | values)
            for n in range(count)
        ]
        with self.store.begin() as tx:
            for job in made:
                jobs.add(tx, job)
        return [job.id for job in made]

    def regions_of(self, ids: Iterable) -> list[str | None]:
        """Where each job was placed; None: it is waiting."""
        rows = [make.read(self.store, job) for job in ids]
        return [row.region if row.state == "starting" else None for row in rows]

    def hops(self, job) -> list[tuple[str, str, str | None]]:
        [attempt] = make.attempts_of(self.store, job)
        return [(hop["region"], hop["outcome"], hop.get("reason")) for hop in attempt.hops]
