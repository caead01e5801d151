"""Metrics of the whole deployment, which the leading dispatcher shows."""

from collections.abc import Iterator, Mapping
from time import monotonic

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from app.telemetry import DISPATCHER

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
    "stillmotion_region_workers": (
        "Workers by the newest report on their region: ready, and busy ones among them.",
        ("region", "state"),
    ),
    "stillmotion_report_age_seconds": ("Since the newest report on a region.", ("region",)),
    "stillmotion_webhooks_due": (
        "Webhook tries that could be made now and are not under way; up to 100,000.",
        (),
    ),
    "stillmotion_oldest_webhook_seconds": (
        "Since the oldest of them came due; 0: there is none.",
        (),
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
