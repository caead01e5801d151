"""Reports, routing table and controls in the regions' Redis.

During an upgrade two releases read each other's JSON. Readers ignore fields that they do not know,
and a field that is added gets a default, here as in app.domain.routing.

All of it may be lost: reports are made again within seconds, and the table and the controls are
copies of rows in Postgres.

Every function raises redis.RedisError.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

import redis

from app.broker import keys
from app.broker.dropped import as_count
from app.domain.routing.controls import Controls
from app.domain.routing.load import Report, ReportRefused
from app.domain.unreadable import UNREADABLE, count

REPORT_KEPT_S = 120
WRITES = 5  # of the controls, each after another process wrote


@dataclass(frozen=True)
class Totals:
    """Counters that only grow, until Redis is flushed."""

    jobs: int = 0  # served
    busy_ms: int = 0  # of serving them
    refused: int = 0  # submits that admission refused


@dataclass(frozen=True)
class RegionReport:
    """A region's report, with further figures for its readers."""

    report: Report
    totals: Totals = Totals()
    measured: bool = False  # else the service time is assumed
    # Jobs/s submitted, by the job's priority as text: JSON has no other keys.
    classes: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RegionReport":
        """Raises ReportRefused if it is unreadable; `load.accept` decides whether to believe it."""
        try:
            raw: dict[str, Any] = json.loads(text)
            values = raw["report"]
            report = Report(
                region=str(values["region"]),
                sequence=count(values["sequence"]),
                sent_at=float(values["sent_at"]),
                ready=count(values["ready"]),
                busy=count(values["busy"]),
                waiting=count(values["waiting"]),
                demand=float(values["demand"]),
                service_s=float(values["service_s"]),
                pinned=float(values["pinned"]),
            )
            classes = {str(name): float(rate) for name, rate in raw["classes"].items()}
            totals = {each.name: raw["totals"].get(each.name, 0) for each in fields(Totals)}
            return cls(
                report,
                Totals(**{name: count(number) for name, number in totals.items()}),
                bool(raw["measured"]),
                classes,
            )
        except UNREADABLE as error:
            raise ReportRefused(
                "unreadable", f"This is no report: {type(error).__name__}."
            ) from error


@dataclass(frozen=True)
class Copies:
    """What one Redis holds; None where it has nothing."""

    table: str | None
    controls: str | None
    reports: dict[str, str]  # as JSON, by region


def read(client: redis.Redis, regions: Sequence[str]) -> Copies:
    """The table, the controls, and the reports of these regions, in one round trip."""
    # The clients decode; redis-py's types cannot say so.
    names = [keys.TABLE, keys.CONTROLS, *map(keys.report, regions)]
    table, controls, *reports = cast("list[str | None]", client.mget(names))
    found = {name: text for name, text in zip(regions, reports, strict=True) if text is not None}
    return Copies(table, controls, found)


def write_report(client: redis.Redis, report: RegionReport) -> None:
    client.set(keys.report(report.report.region), report.to_json(), ex=REPORT_KEPT_S)


def read_report(client: redis.Redis, region: str) -> str | None:
    return cast("str | None", client.get(keys.report(region)))


def take_turn(client: redis.Redis, region: str, for_s: float) -> bool:
    """Whether this process, of all dispatchers, is to report on the region now."""
    return bool(client.set(keys.reporter(region), 1, nx=True, px=max(1, int(for_s * 1000))))


def write_table(client: redis.Redis, table: str, *, if_missing: bool = False) -> None:
    client.set(keys.TABLE, table, nx=if_missing)


def write_controls(
    client: redis.Redis, read: Callable[[], Controls], *, if_missing: bool = False
) -> None:
    """The controls for dispatchers, and drained workers in the key that announcements check.

    `read` gives those in force. Processes write at any time, and one that read before another wrote
    must not put its older copy over the newer: it reads again, at most `WRITES` times. It gives up
    silently then, since each of the others wrote later than it.
    """
    with client.pipeline() as pipe:
        for _ in range(WRITES):
            try:
                pipe.watch(keys.CONTROLS)  # type: ignore[no-untyped-call]
                if if_missing and pipe.exists(keys.CONTROLS):
                    return
                decided = read()
                pipe.multi()
                pipe.set(keys.CONTROLS, decided.to_json())
                pipe.delete(keys.DRAINED_WORKERS)
                if decided.drained_workers:
                    pipe.sadd(keys.DRAINED_WORKERS, *decided.drained_workers)
                pipe.execute()
            except redis.WatchError:
                continue
            return


def count_refused(client: redis.Redis, region: str) -> None:
    """A submit with this home was refused; it counts as demand all the same."""
    client.incr(keys.refused(region))


def refused(client: redis.Redis, region: str) -> int:
    """How many submits with this home were refused."""
    return as_count(client.get(keys.refused(region)), "counter") or 0
