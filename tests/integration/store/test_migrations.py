"""Migrations: the newest matches the models and can be taken back; each can be run again."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from scripts.stack.databases import drop_database
from tests.support import services

INI = services.ROOT / "migrations/alembic.ini"
VERSIONS = sorted(
    path.name[:4] for path in Path(services.ROOT / "migrations/versions").glob("[0-9]*.py")
)


class Database:
    """A private database, and alembic for it."""

    def __init__(self, url: str):
        self.url = url
        given = {"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0"}
        given |= {"OBJECTS_URL": "file:///nowhere", "SECRET_KEY": services.SECRET_KEY}
        self._environment = os.environ | given

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "alembic", "-c", INI, *arguments],
            env=self._environment,
            cwd=services.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def alembic(self, *arguments: str) -> None:
        child = self.start(*arguments)
        printed, _ = child.communicate(timeout=120)
        assert child.returncode == 0, printed

    def ask(self, query: str) -> list:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def database(postgres_url):
    name = "migrations_test"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        drop_database(connection, name)
        connection.execute(f"CREATE DATABASE {name}")
    return Database(urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}")))


def test_the_newest_matches_the_models_before_and_after_a_downgrade(database):
    database.alembic("upgrade", "head")
    database.alembic("check")
    database.alembic("downgrade", "-1")
    database.alembic("upgrade", "head")
    database.alembic("check")


# A migrator that waits for an older transaction before it builds or drops an index.
WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'virtualxid'
"""
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_migration_waits_for_an_open_snapshot_and_can_be_run_again(database, version):
    """A backup is under way: the migration is stopped where it waits, and succeeds later."""
    database.alembic("upgrade", f"{int(version) - 1:04}" if version > VERSIONS[0] else "base")
    with psycopg.connect(database.url) as snapshot:
        snapshot.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot.execute("SELECT 1")
        child = database.start("upgrade", version)
        services.wait_until(lambda: child.poll() is not None or database.ask(WAITING), timeout_s=60)
        if child.poll() is None:
            [(pid,)] = database.ask(WAITING)
            database.ask(f"SELECT pg_terminate_backend({pid})")
            assert child.wait(30) != 0
        else:
            assert child.returncode == 0, child.stdout.read()
        child.stdout.close()
    database.alembic("upgrade", version)
    assert database.ask(INVALID) == []


def test_a_migration_outwaits_a_snapshot_and_another_migrator_waits_for_it(database):
    """Two deployments at once, during a backup that lasts longer than the lock timeout."""
    database.alembic("upgrade", "0005")
    with psycopg.connect(database.url) as snapshot:
        snapshot.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot.execute("SELECT 1")
        first = database.start("upgrade", "head")
        services.wait_until(lambda: database.ask(WAITING), first, timeout_s=60)
        second = database.start("upgrade", "head")
        with pytest.raises(subprocess.TimeoutExpired):
            first.wait(6)
    for child in (first, second):
        printed, _ = child.communicate(timeout=120)
        assert child.returncode == 0, printed
    assert database.ask(INVALID) == []
