"""Migrations: the newest matches the models and can be taken back; each can be run again."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from alembic import command

from app.cli.migrate import configuration, schema_version
from scripts.stack.databases import drop_database
from tests.support import services

INI = services.ROOT / "migrations/alembic.ini"
VERSIONS = sorted(
    path.name[:4] for path in Path(services.ROOT / "migrations/versions").glob("[0-9]*.py")
)
BEFORE = dict(zip(VERSIONS, [None, *VERSIONS], strict=False))


class Database:
    """A private database, and alembic for it."""

    def __init__(self, postgres_url: str, name: str):
        self.url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        self._name, self._postgres_url = name, postgres_url
        self.config = configuration(self.url)

    def create(self) -> "Database":
        """Make it anew, and empty."""
        with psycopg.connect(self._postgres_url, autocommit=True) as connection:
            drop_database(connection, self._name)
            connection.execute(f"CREATE DATABASE {self._name}")
        return self

    def start(self) -> subprocess.Popen:
        """Upgrade to the newest version in a process."""
        given = {"DATABASE_URL": self.url, "REDIS_URL": "redis://127.0.0.1:1/0"}
        given |= {"OBJECTS_URL": "file:///nowhere", "SECRET_KEY": services.SECRET_KEY}
        return subprocess.Popen(
            [sys.executable, "-m", "alembic", "-c", INI, "upgrade", "head"],
            env=os.environ | given,
            cwd=services.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def upgrade(self, version: str) -> None:
        command.upgrade(self.config, version)

    def ask(self, query: str) -> list:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def database(postgres_url):
    return Database(postgres_url, "migrations_test").create()


@pytest.fixture(scope="module")
def _grown(postgres_url):
    return Database(postgres_url, "migrations_one_by_one").create()


@pytest.fixture
def database_before(_grown, version):
    """A database as the migration finds it: where the last test left it, if that was the last."""
    before = BEFORE[version]
    if schema_version(_grown.url) != before:
        _grown.create()
        if before:
            _grown.upgrade(before)
    return _grown


def test_the_newest_matches_the_models_before_and_after_a_downgrade(database):
    database.upgrade("head")
    command.check(database.config)  # raises if they differ
    command.downgrade(database.config, "-1")
    database.upgrade("head")
    command.check(database.config)


# A migrator that waits for an older transaction before it builds or drops an index.
WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'virtualxid'
"""
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_migration_waits_for_an_open_snapshot_and_can_be_run_again(database_before, version):
    """A backup is under way: the migration is stopped where it waits, and succeeds later."""
    database = database_before
    with psycopg.connect(database.url) as snapshot, ThreadPoolExecutor(1) as thread:
        snapshot.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot.execute("SELECT 1")
        migrating = thread.submit(database.upgrade, version)
        services.wait_until(lambda: migrating.done() or database.ask(WAITING), timeout_s=60)
        if migrating.done():
            migrating.result()
        else:
            [(pid,)] = database.ask(WAITING)
            database.ask(f"SELECT pg_terminate_backend({pid})")
            assert migrating.exception(30) is not None
    database.upgrade(version)
    assert database.ask(INVALID) == []


def test_a_migration_outwaits_a_snapshot_and_another_migrator_waits_for_it(database):
    """Two deployments at once, during a backup that lasts longer than the lock timeout."""
    database.upgrade("0005")
    with psycopg.connect(database.url) as snapshot:
        snapshot.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot.execute("SELECT 1")
        first = database.start()
        services.wait_until(lambda: database.ask(WAITING), first, timeout_s=60)
        second = database.start()
        with pytest.raises(subprocess.TimeoutExpired):
            first.wait(6)
    for child in (first, second):
        printed, _ = child.communicate(timeout=120)
        assert child.returncode == 0, printed
    assert database.ask(INVALID) == []
