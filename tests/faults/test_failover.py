"""Postgres and Valkey fail over to copies that lack what was written last."""

import psycopg
import pytest
import redis

from app.store.session import Store
from scripts.benchmarks.harness.valve import Valve
from scripts.stack.data import DataDir
from scripts.stack.programs import VALKEY
from tests.support import services
from tests.support.fleet import ends, wait_for
from tests.support.fleet import fleet as make_fleet
from tests.support.postgres import CrashingPostgres, Standby

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def primary():
    server = CrashingPostgres(DataDir(None))
    server.start()
    services.migrate(server.url)
    yield server
    server.close()


@pytest.fixture
def standby(primary):
    """A synchronous standby, as the guide asks for."""
    server = Standby(DataDir(None), primary)
    server.start()
    with psycopg.connect(primary.superuser_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
    state = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    services.wait_until(lambda: primary.query(state), timeout_s=30)
    yield server
    server.close()


def test_a_failover_takes_back_no_answer_and_doubles_nothing(primary, standby, change, tmp_path):
    """The standby knows of the job, but not that it was placed and is being rendered."""
    path = Valve(primary.url)
    store = Store(change(database_url=path.through).sqlalchemy_url)
    with make_fleet(change(database_url=path.through), store, tmp_path) as fleet:
        fleet.dispatcher()
        workers = [fleet.worker(noop_step_s=1.0).wait_ready() for _ in range(2)]
        told = fleet.wait(fleet.submit(steps=1), "succeeded")
        standby_knows = "SELECT state FROM jobs WHERE id = %s"
        wait_for(lambda: standby.query(standby_knows, told.id) == [("succeeded",)])
        job_id = fleet.submit(steps=15)
        standby.stop_receiving()  # the submit waited for it; nothing after it does
        fleet.wait(job_id, "processing")
        primary.crash()
        path.lead_to(standby.url)
        path.cut()
        standby.promote()
        wait_for(lambda: standby.query(standby_knows, job_id) != [("queued",)], timeout_s=60)
        job = fleet.wait(job_id, "succeeded", timeout_s=60)
        assert fleet.read(told.id) == told
        assert {info.key for info in fleet.objects.list("outputs/")} == {
            job.output_key,
            told.output_key,
        }
        assert ends(job_id, *workers, last="succeeded").count("succeeded") == 1
    store.close()
    path.close()


@pytest.fixture
def valkeys(tmp_path):
    """A primary and its replica: the process of the first, both URLs."""
    ports = services.free_port(), services.free_port()
    binary = VALKEY.find(DataDir(None))
    common = ["--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    first = [binary, *common, "--port", str(ports[0])]
    second = [binary, *common, "--port", str(ports[1]), "--replicaof", "127.0.0.1", str(ports[0])]
    urls = [f"redis://127.0.0.1:{port}/0" for port in ports]
    with services.process(first) as primary, services.process(second):
        with redis.Redis.from_url(urls[1]) as replica:
            services.wait_until(lambda: replica.info("replication")["master_link_status"] == "up")
        yield primary, *urls


def test_a_replica_that_lacks_the_last_claims_and_messages_loses_no_job(
    valkeys, store, change, tmp_path
):
    """The replica shows workers as idle that render, and no message of the jobs just placed."""
    primary, primary_url, replica_url = valkeys
    path = Valve(primary_url)
    with make_fleet(change(redis_url=path.through), store, tmp_path) as fleet:
        fleet.dispatcher()
        workers = [fleet.worker(noop_step_s=0.5).wait_ready() for _ in range(2)]
        fleet.wait(fleet.submit(steps=1), "succeeded")
        with redis.Redis.from_url(replica_url) as client:
            client.replicaof("NO", "ONE")  # from here on it knows nothing of what follows
        jobs = [fleet.submit(steps=6) for _ in range(8)]
        for job_id in jobs[:2]:
            fleet.wait(job_id, "processing")
        primary.kill()
        path.lead_to(replica_url)
        path.cut()
        ended = [fleet.wait(job_id, "succeeded", timeout_s=90) for job_id in jobs]
        stored = {info.key for info in fleet.objects.list("outputs/")}
        assert {job.output_key for job in ended} < stored and len(stored) == len(jobs) + 1
        for job_id in jobs:
            assert ends(job_id, *workers, last="succeeded").count("succeeded") == 1
    path.close()
