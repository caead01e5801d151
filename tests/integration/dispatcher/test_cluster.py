"""Metrics of the whole deployment: counted by the leader, kept while the database is away."""

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from app.cluster_figures import Cluster
from app.dispatcher.control.cluster import ClusterCounter
from app.store.session import Store
from app.store.traffic import tables
from tests.support import make, services
from tests.support.fleet import fleet as make_fleet


class Shown:
    """One dispatcher's gauges."""

    def __init__(self, config, store):
        self.leads = True
        self.gauges = Cluster()
        self._registry = CollectorRegistry()
        self._registry.register(self.gauges)
        self.use(config, store)

    def use(self, config, store):
        self._counter = ClusterCounter(config, store, self.gauges, leads=lambda: self.leads)

    def tick(self):
        self._counter.tick()

    def __call__(self, name, **labels):
        return self._registry.get_sample_value(f"stillmotion_{name}", labels)


@pytest.fixture
def shown(settings, store):
    return Shown(settings, store)


EAST = {"profile": "noop", "region": "us-east"}


def test_the_leader_counts_jobs_by_state_and_how_long_the_oldest_has_waited(shown, store):
    owner = make.owner(store)
    for priority in (1, 1, 2):
        job_id = make.submit(store, owner, priority=priority)
    make.backdate(store, job_id, "created_at", 90)
    backing_off = make.submit(store, owner, hold_s=60.0)
    make.backdate(store, backing_off, "created_at", 300)
    with store.begin() as tx:
        make.place(tx, "noop", "us-east", "us-east", ["t"])
    shown.tick()
    assert shown("live_jobs", **EAST, state="queued") == 3
    assert shown("live_jobs", **EAST, state="starting") == 1
    assert shown("live_jobs", profile="noop", region="eu-west", state="processing") == 0
    assert 90 <= shown("oldest_waiting_seconds", **EAST, priority="2") < 120
    assert shown("oldest_waiting_seconds", **EAST, priority="1") < 60, "a backoff runs"
    assert shown("oldest_waiting_seconds", **EAST, priority="0") == 0
    assert shown("table_age_seconds") is None, "there is no table"
    assert shown("database_dead_rows", table="jobs") is not None


def test_a_snapshot_that_is_held_shows_in_the_age_of_the_oldest(shown, store):
    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as reader:
        reader.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        reader.execute(text("SELECT 1 FROM jobs"))
        for _ in range(5):
            make.owner(store)
        shown.tick()
        assert shown("database_xmin_age") >= 5


def test_the_figures_stay_with_their_age_while_the_database_is_away(shown, settings, store):
    make.submit(store, make.owner(store))
    shown.tick()
    lost = f"postgresql+psycopg://app@127.0.0.1:{services.free_port()}/none"
    shown.use(settings, Store(lost, timeout_s=0.5))
    shown.leads = False  # nobody leads without the database
    shown.tick()
    assert shown("live_jobs", **EAST, state="queued") == 1
    before = shown("cluster_age_seconds")
    assert before > 0
    assert shown("cluster_age_seconds") > before


def test_who_no_longer_leads_forgets_its_figures_once_another_does(shown, store):
    shown.tick()
    shown.leads = False
    shown.tick()
    assert shown("live_jobs", **EAST, state="queued") == 0, "nobody else has them yet"
    with store.session() as session:
        assert tables.lead(session, idle_s=60.0)
        shown.tick()
    assert shown("live_jobs", **EAST, state="queued") is None
    assert shown("cluster_age_seconds") is None


def test_one_of_two_dispatchers_shows_the_backlog(settings, store, tmp_path):
    ports = services.free_port(), services.free_port()
    with make_fleet(settings, store, tmp_path) as fleet:
        for port in ports:
            fleet.dispatcher(internal_port=port)
        fleet.submit()

        def showing():
            pages = [httpx.get(f"http://127.0.0.1:{port}/metrics").text for port in ports]
            return [page for page in pages if 'state="queued"} 1.0' in page]

        services.wait_until(showing, timeout_s=60)
        [page] = showing()
        assert "stillmotion_controller_leading 1.0" in page
