"""`stillmotion migrate`, on real databases."""

import json

import psycopg
import pytest

from app.store.schema import REVISION
from scripts.stack.databases import drop_database
from stillmotion import cli
from stillmotion.cli import ExitStatus
from tests.support import services

VERSIONS = sorted(
    path.name[:4] for path in (services.ROOT / "migrations/versions").glob("[0-9]*.py")
)


@pytest.fixture
def new_database(database_url):
    """A function that creates an empty database and returns its URL."""

    def create(options=""):
        with psycopg.connect(database_url, autocommit=True) as connection:
            drop_database(connection, "migrated")
            connection.execute(f"CREATE DATABASE migrated {options}")
        return database_url.rpartition("/")[0] + "/migrated"

    return create


def migrate(url, *options):
    return cli.run(["migrate", "--database-url", url, *options])


def test_an_empty_database_becomes_this_releases(new_database, capsys):
    url = new_database()
    assert migrate(url, "--check") == ExitStatus.DISAGREE
    assert capsys.readouterr().out == f"The schema is empty; this release needs {REVISION}.\n"
    assert migrate(url) == ExitStatus.OK
    out, err = capsys.readouterr()
    assert out == f"The schema is empty -> {REVISION}.\n"
    assert len(err.splitlines()) == len(VERSIONS), "one line as each step begins"
    assert migrate(url, "--check") == ExitStatus.OK
    assert migrate(url) == ExitStatus.OK
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"The schema is {REVISION}, as this release needs it."
    )
    assert migrate(url, "--check", "--json") == ExitStatus.OK
    versions = {"before": REVISION, "after": REVISION, "needed": REVISION}
    assert json.loads(capsys.readouterr().out) == versions


def test_the_release_needs_the_newest_migration():
    assert VERSIONS[-1] == REVISION


def test_only_the_database_has_to_be_known(new_database, monkeypatch, capsys):
    pooler, direct = "postgresql://app@127.0.0.1:1/none", new_database()
    monkeypatch.setenv("DATABASE_URL", pooler)
    assert cli.run(["migrate", "--check"]) == ExitStatus.UNREACHABLE
    monkeypatch.setenv("DATABASE_DIRECT_URL", direct)
    assert cli.run(["migrate", "--check"]) == ExitStatus.DISAGREE


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("nonsense", ExitStatus.CONFIG),
        ("postgresql://app@127.0.0.1:1/none", ExitStatus.UNREACHABLE),
    ],
)
def test_a_wrong_or_unreachable_database_is_one_sentence(url, status, capsys):
    assert migrate(url) == status
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_database_of_another_encoding_is_refused(new_database, capsys):
    url = new_database("TEMPLATE template0 ENCODING SQL_ASCII LOCALE_PROVIDER libc LOCALE 'C'")
    assert migrate(url) == ExitStatus.CONFIG
    assert "encoding is SQL_ASCII, and must be UTF8." in capsys.readouterr().err


def test_a_newer_schema_stays_as_it_is(new_database, capsys):
    """A release that is rolled back to runs on it, and so must its migration job."""
    url = new_database()
    services.migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for options in ((), ("--check",)):
        assert migrate(url, *options) == ExitStatus.OK
        assert capsys.readouterr().out == (
            f"The schema is 9999, newer than this release's {REVISION}, which runs on it.\n"
        )
    assert migrate(url, "--json") == ExitStatus.OK
    shown = {"before": "9999", "after": "9999", "needed": REVISION}
    assert json.loads(capsys.readouterr().out) == shown
