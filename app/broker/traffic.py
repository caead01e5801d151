"""The regions' Redis as the place where traffic's facts are passed on: reports, table, controls.

All of it may be lost: reports are made again within seconds, and the table and the controls are
copies of rows in Postgres.

Every function raises redis.RedisError.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import redis

from app.broker.claims import DRAINED_WORKERS
from app.domain.routing.controls import Controls
from app.domain.routing.load import Report, ReportRefused

TABLE, CONTROLS = "stillmotion:table", "stillmotion:controls"
REPORT_KEPT_S = 120


def _report(region: str) -> str:
    return f"stillmotion:report:{region}"


@dataclass(frozen=True)
class Totals:
    """Counters that only grow, until Redis is flushed."""

    jobs: int = 0  # served
    busy_ms: int = 0  # of serving them
    refused: int = 0  # submits that admission refused


@dataclass(frozen=True)
class RegionReport:
    """A region's report, and what else its readers want to know of it."""

    report: Report
    totals: Totals = Totals()
    measured: bool = False  # the service time is; else it is assumed
    # Jobs/s submitted, by the job's priority as text: JSON has no other keys.
    classes: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RegionReport":
        """Raises ReportRefused if this is no report; whether to believe it is another question."""
        try:
            raw: dict[str, Any] = json.loads(text)
            values = raw["report"]
            report = Report(
                region=str(values["region"]),
                **{name: int(values[name]) for name in ("sequence", "ready", "busy", "waiting")},
                **{
                    name: float(values[name])
                    for name in ("sent_at", "demand", "service_s", "pinned")
                },
            )
            classes = {str(name): float(rate) for name, rate in raw["classes"].items()}
            totals = Totals(**{name: int(number) for name, number in raw["totals"].items()})
            return cls(report, totals, bool(raw["measured"]), classes)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ReportRefused(
                "unreadable", f"This is no report: {type(error).__name__}."
            ) from error


@dataclass(frozen=True)
class Copies:
    """What one Redis holds; None: nothing."""

    table: str | None
    controls: str | None
    reports: dict[str, str]  # as JSON, by region


def read(client: redis.Redis, regions: Sequence[str]) -> Copies:
    """The table, the controls, and the reports of these regions, in one round trip."""
    table, controls, *reports = client.mget([TABLE, CONTROLS, *map(_report, regions)])
    found = {name: text for name, text in zip(regions, reports, strict=True) if text is not None}
    return Copies(table, controls, found)


def write_report(client: redis.Redis, report: RegionReport) -> None:
    client.set(_report(report.report.region), report.to_json(), ex=REPORT_KEPT_S)


def read_report(client: redis.Redis, region: str) -> str | None:
    return client.get(_report(region))


def take_turn(client: redis.Redis, region: str, for_s: float) -> bool:
    """Whether this process is to report on the region now: one of all dispatchers is."""
    key = f"stillmotion:reporter:{region}"
    return bool(client.set(key, 1, nx=True, px=max(1, int(for_s * 1000))))


def write_table(client: redis.Redis, table: str) -> None:
    client.set(TABLE, table)


def write_controls(client: redis.Redis, controls: Controls) -> None:
    """The controls for dispatchers, and the drained workers where workers' announcements look."""
    pipe = client.pipeline(transaction=True)
    pipe.set(CONTROLS, controls.to_json())
    pipe.delete(DRAINED_WORKERS)
    if controls.drained_workers:
        pipe.sadd(DRAINED_WORKERS, *controls.drained_workers)
    pipe.execute()


def count_refused(client: redis.Redis, region: str) -> None:
    """A submit with this home was refused: it is demand all the same."""
    client.incr(f"stillmotion:refused:{region}")


def refused(client: redis.Redis, region: str) -> int:
    """How many submits with this home were refused."""
    return int(client.get(f"stillmotion:refused:{region}") or 0)
