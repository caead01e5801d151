"""Logs as JSON lines, and every metric."""

import logging
import sys
from collections.abc import Iterator, Mapping
from time import monotonic

import structlog
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from structlog.typing import Processor

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)

# They double the series, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


# Each process shows its own: a metric that it never writes would read 0, which may mean something.
API, DISPATCHER, GPU_WORKER, CPU_WORKER = (_registry() for _ in range(4))


class _Together(CollectorRegistry):
    """Registers a metric in several registries."""

    def __init__(self, *registries: CollectorRegistry):
        super().__init__()
        self._registries = registries

    def register(self, collector: Collector) -> None:
        for registry in self._registries:
            registry.register(collector)


submits = Counter("stillmotion_submits_total", "Submits by HTTP status.", ["status"], registry=API)
submit_seconds = Histogram(
    "stillmotion_submit_seconds", "Time to accept a job.", buckets=SECONDS, registry=API
)
placements = Counter(
    "stillmotion_placements_total",
    "Attempts placed.",
    ["region", "overflow"],
    registry=DISPATCHER,
)
refused_probes = Counter(
    "stillmotion_refused_probes_total", "Claims refused.", ["region"], registry=DISPATCHER
)
reaped = Counter(
    "stillmotion_reaped_total",
    "Attempts reclaimed by the reaper.",
    ["reason"],
    registry=DISPATCHER,
)
tables_refused = Counter(
    "stillmotion_tables_refused_total",
    "Routing tables rejected for breaking an invariant, when written or read.",
    ["where", "reason"],
    registry=_Together(API, DISPATCHER),
)
reports_refused = Counter(
    "stillmotion_reports_refused_total",
    "Regional reports rejected.",
    ["reason"],
    registry=DISPATCHER,
)
leading = Gauge(
    "stillmotion_controller_leading",
    "1 in the dispatcher that runs the controller.",
    registry=DISPATCHER,
)
shed_submits = Counter(
    "stillmotion_shed_submits_total",
    "Submits refused by admission.",
    ["region", "code"],
    registry=API,
)
places_refused = Counter(
    "stillmotion_places_refused_total",
    "Requests refused: no place to wait for a job or a body; too many submits under way.",
    ["kind"],
    registry=API,
)
eta_error = Histogram(
    "stillmotion_eta_error_ratio",
    "Succeeded jobs: |time predicted at submit - time taken| / time taken.",
    buckets=(0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5),
    registry=GPU_WORKER,
)
messages_dropped = Counter(
    "stillmotion_messages_dropped_total",
    "Messages and values in a broker or Redis that could not be read.",
    ["where"],
    registry=_Together(API, DISPATCHER, GPU_WORKER, CPU_WORKER),
)
attempts_ended = Counter(
    "stillmotion_attempts_ended_total", "Attempts by outcome.", ["outcome"], registry=GPU_WORKER
)
clips_signed = Counter(
    "stillmotion_clips_signed_total",
    "Clips by signing outcome.",
    ["outcome"],
    registry=GPU_WORKER,
)


Labels = tuple[str, ...]
Samples = Mapping[Labels, float]
# Name -> help, and the names of its labels.
CLUSTER: dict[str, tuple[str, Labels]] = {
    "stillmotion_live_jobs": (
        "Unfinished jobs. The backlog is here: broker queues are short by design.",
        ("profile", "region", "state"),
    ),
    "stillmotion_oldest_waiting_seconds": (
        "Since the submit of the oldest job that could be placed now; 0: there is none.",
        ("profile", "region", "priority"),
    ),
    "stillmotion_table_version": ("Version of the latest routing table.", ()),
    "stillmotion_table_age_seconds": ("Since the latest routing table was made.", ()),
    "stillmotion_optimality_gap_points": (
        "Percentage points more demand that the best routing would keep at home.",
        (),
    ),
    "stillmotion_optimality_rtt_ratio": (
        "Our mean round trip divided by the best routing's.",
        (),
    ),
    "stillmotion_database_xmin_age": (
        "Transactions since the oldest snapshot that is still open in Postgres.",
        (),
    ),
    "stillmotion_database_dead_rows": ("Rows that no vacuum has removed yet.", ("table",)),
    "stillmotion_cluster_age_seconds": (
        "Since the database was last asked for the figures of the whole deployment.",
        (),
    ),
}


class Cluster:
    """Figures of the whole deployment, as the leading dispatcher last knew them.

    Other dispatchers show none of them. While the database is away the last figures stay, and
    `stillmotion_cluster_age_seconds` grows.
    """

    def __init__(self) -> None:
        self._samples: Mapping[str, Samples] = {}
        self._counted_at: float | None = None

    def show(self, samples: Mapping[str, Samples]) -> None:
        """Replace the gauges that are given. Samples that are absent from one are gone."""
        self._samples = {**self._samples, **samples}

    def counted(self, samples: Mapping[str, Samples]) -> None:
        """`show`, of what the database has just said."""
        self.show(samples)
        self._counted_at = monotonic()

    def forget(self) -> None:
        """Another dispatcher leads."""
        self._samples, self._counted_at = {}, None

    def collect(self) -> Iterator[Metric]:
        samples = dict(self._samples)
        if self._counted_at is not None:
            age_s = monotonic() - self._counted_at
            samples["stillmotion_cluster_age_seconds"] = {(): age_s}
        for family in self.describe():
            for labels, value in samples.get(family.name, {}).items():
                family.add_metric(labels, value)
            if family.samples:
                yield family

    def describe(self) -> Iterator[GaugeMetricFamily]:
        for name, (text, labels) in CLUSTER.items():
            yield GaugeMetricFamily(name, text, labels=labels)


cluster = Cluster()
DISPATCHER.register(cluster)


def configure_logs(level: str = "info") -> None:
    """Send all log records, ours and the libraries', to stderr as JSON lines."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # httpx logs every URL, and a signed URL is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
