"""Counts what the metrics say about the whole deployment, in the dispatcher that leads."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from threading import Event

import structlog
from sqlalchemy import Connection

from app.cluster_figures import Cluster, Labels, Samples
from app.config.settings import Settings
from app.domain.errors import DatabaseUnavailable
from app.store.reports import cluster
from app.store.reports.cluster import LiveJobs
from app.store.session import Store
from app.store.traffic import tables
from stillmotion.states import TERMINAL, JobState

log = structlog.get_logger(__name__)

EVERY_S = 5.0
LIVE_STATES = [state.value for state in JobState if state not in TERMINAL]
PRIORITIES = ("0", "1", "2")


class ClusterCounter:
    """Keeps the gauges of the whole deployment, of which one dispatcher at a time has samples.

    A scrape reads no row: it gets what was counted last.
    """

    def __init__(
        self, config: Settings, store: Store, gauges: Cluster, *, leads: Callable[[], bool]
    ):
        self._config = config
        self._store = store
        self._gauges = gauges
        self._leads = leads

    def run(self, stopping: Event) -> None:
        while not stopping.is_set():
            self.tick()
            stopping.wait(EVERY_S)

    def tick(self) -> None:
        """Count if this process leads; forget what it counted if another one does."""
        try:
            with self._store.autocommit() as conn:
                if self._leads():
                    self._gauges.counted(self._count(conn))
                elif tables.has_leader(conn):
                    self._gauges.forget()
        except DatabaseUnavailable as error:
            # Whoever led keeps its last figures: nobody can lead without the database.
            log.warning("cluster_not_counted", error=error.detail)

    def _count(self, conn: Connection) -> dict[str, Samples]:
        live, health = cluster.live(conn), cluster.health(conn)
        webhooks = cluster.webhooks(conn)
        table_age: Samples = {}
        if health.table_age_s is not None:
            table_age = {(): health.table_age_s}
        return {
            "stillmotion_live_jobs": self._live_jobs(live),
            "stillmotion_oldest_waiting_seconds": self._oldest_waiting(live),
            "stillmotion_webhooks_due": {(): webhooks.due},
            "stillmotion_oldest_webhook_seconds": {(): webhooks.oldest_s},
            "stillmotion_table_age_seconds": table_age,
            "stillmotion_database_xmin_age": {(): health.xmin_age},
            "stillmotion_database_dead_rows": {
                (table,): rows for table, rows in health.dead_rows.items()
            },
        }

    # Zeros too: an alert on a series that comes and goes does not fire.

    def _live_jobs(self, live: Sequence[LiveJobs]) -> Samples:
        counts: dict[Labels, float] = dict.fromkeys(self._every(LIVE_STATES), 0.0)
        for kind in live:
            labels: Labels = (kind.profile, kind.region, kind.state)
            counts[labels] = counts.get(labels, 0.0) + kind.jobs
        return counts

    def _oldest_waiting(self, live: Sequence[LiveJobs]) -> Samples:
        oldest: dict[Labels, float] = dict.fromkeys(self._every(PRIORITIES), 0.0)
        for kind in live:
            if kind.oldest_s is not None:
                oldest[kind.profile, kind.region, str(kind.priority)] = kind.oldest_s
        return oldest

    def _every(self, kinds: Iterable[str]) -> Iterator[Labels]:
        """(profile, region, kind) of every pool."""
        return product(self._config.served_profiles, self._config.topology.names, kinds)
