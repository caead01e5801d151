"""An upgrade and its rollback under load: nothing is lost, and every job ends exactly once.

The last release and this one share one deployment, on the schema of this one, in every mix of API,
dispatcher and worker. Each part is ended with work under way, every other time without notice.
"""

import signal
from contextlib import ExitStack
from itertools import cycle, pairwise, product
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from app.config.settings import Settings
from app.domain.job.levels import SPEAKS
from app.objects import objects_for
from app.store import keys
from app.store.session import Store
from scripts.stack.databases import drop_database
from tests.support import make, services
from tests.upgrade.releases import Client, Mixed

pytestmark = pytest.mark.timeout(600)

PARTS = ("api", "dispatcher", "worker")
# Which release runs each part. The schema first, then in the order that the runbook names.
UPGRADE = [
    ("last", "last", "last"),
    ("last", "last", "this"),
    ("last", "this", "this"),
    ("this", "this", "this"),
]
# What happens where that order is not kept: the other mixes, one change at a time.
ANY_ORDER = [
    ("this", "last", "this"),
    ("this", "last", "last"),
    ("this", "this", "last"),
    ("last", "this", "last"),
]
ROLLBACK = UPGRADE[::-1][1:]
OLD_DISPATCHER = ROLLBACK[1:]
MIXES = [*UPGRADE, *ANY_ORDER, *ROLLBACK]
EACH, WAIT_S = 3, 90.0


def test_the_walk_meets_every_mix_and_changes_one_part_at_a_time():
    assert set(MIXES) == set(product(("last", "this"), repeat=3))
    for before, after in pairwise(MIXES):
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1, (before, after)


@pytest.fixture
def private(session_settings, redis_url, objects_dir, receiver, postgres_url):
    """Settings of a deployment with an empty database of its own."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        drop_database(connection, "upgrade")
        connection.execute("CREATE DATABASE upgrade")
    values = session_settings.model_dump() | {
        "database_url": urlunsplit(urlsplit(postgres_url)._replace(path="/upgrade")),
        "public_url": f"http://127.0.0.1:{services.free_port()}",
        "served_profiles": ("noop",),
        "model_profile": "noop",
        "model_steps": 6,
        "noop_step_s": 0.1,
        "outbound_allow": receiver.address,
    }
    return Settings(**values)


def test_every_mix_under_load_loses_nothing(private, last, this, receiver, photo, tmp_path):
    of = {"last": last, "this": this}
    last.command(private, "migrate")
    key = last.command(private, "keys", "create", "--name", "test").strip()
    with ExitStack() as stack:
        mixed = Mixed(private, tmp_path, stack)
        for part in PARTS:
            mixed.replace(part, last, signal.SIGTERM)
        client = Client(private, key, photo, receiver.url("/hook"))
        under_way = client.submit(EACH)
        this.command(private, "migrate")  # while they run
        # Its own would not be needed; every process of it that starts below is content.
        assert last.run(private, "stillmotion.cli", "migrate", "--check").returncode == 8
        store = Store(private.sqlalchemy_url)
        stack.callback(store.close)
        asking = Asking(store, private)
        how = cycle([signal.SIGKILL, signal.SIGTERM])

        def change(running, mix):
            for part, before, after in zip(PARTS, running, mix, strict=True):
                if before != after:
                    mixed.replace(part, of[after], next(how))
            return mix

        running = UPGRADE[0]
        for mix in MIXES[: -len(OLD_DISPATCHER)]:
            running = change(running, mix)
            jobs = client.submit(EACH)
            asking.submit()
            # The mix does work, and leaves some of it to the next one.
            services.wait_until(
                lambda jobs=jobs, before=under_way: done(store, before) and any_done(store, jobs),
                timeout_s=WAIT_S,
            )
            under_way = jobs
        # As the runbook says: first, nothing waits that the last release cannot do.
        services.wait_until(lambda: done(store, asking.jobs), timeout_s=WAIT_S)
        for mix in OLD_DISPATCHER:
            running = change(running, mix)
            jobs = client.submit(EACH)
            services.wait_until(lambda jobs=jobs: any_done(store, jobs), timeout_s=WAIT_S)
        services.wait_until(lambda: done(store, client.accepted), timeout_s=WAIT_S)
        for job in client.accepted:
            assert client.state(job) == "succeeded"
        assert client.fetch(client.accepted[0])
        with store.autocommit() as conn:
            ends = conn.exec_driver_sql(
                "SELECT job_id, count(*) FROM webhook_deliveries GROUP BY job_id"
            ).fetchall()
            clips = conn.exec_driver_sql(
                "SELECT job_id, count(*) FROM attempts WHERE outcome = 'succeeded' GROUP BY job_id"
            ).fetchall()
        assert dict(map(tuple, ends)) == dict.fromkeys(client.accepted, 1)
        assert dict(map(tuple, clips)) == dict.fromkeys([*client.accepted, *asking.jobs], 1)
        offered = {
            mixed.workers[attempt.worker]
            for job in asking.jobs
            for attempt in make.attempts_of(store, job)
            if attempt.worker is not None
        }
        assert offered == {"this"}, "a worker of the last release would have ignored a field"


class Asking:
    """Jobs that use a field which the last release does not know."""

    def __init__(self, store: Store, settings: Settings):
        self._store = store
        objects_for(settings).put(make.INPUT_KEY, b"noop does not look at it", "image/jpeg")
        with store.begin() as tx:
            self._owner = keys.create(tx, "asking")[0]
        self.jobs = []

    def submit(self) -> None:
        self.jobs.append(make.submit(self._store, self._owner, needs=SPEAKS))


def _ended(store, jobs):
    with store.autocommit() as conn:
        rows = conn.exec_driver_sql(
            "SELECT state FROM jobs WHERE id = ANY(%s) AND finished_at IS NOT NULL", (list(jobs),)
        ).fetchall()
    assert {row.state for row in rows} <= {"succeeded"}
    return len(rows)


def done(store, jobs):
    return _ended(store, jobs) == len(jobs)


def any_done(store, jobs):
    return _ended(store, jobs) > 0
