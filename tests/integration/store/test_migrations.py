"""The newest migration: it matches the models, and can be taken back."""

import os
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.support import services

INI = services.ROOT / "migrations/alembic.ini"


@pytest.fixture
def alembic(postgres_url):
    """Runs alembic on a database of its own."""
    name = "migrations_test"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
    url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    given = {"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0"}
    given |= {"OBJECTS_URL": "file:///nowhere", "SECRET_KEY": services.SECRET_KEY}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "-c", INI, *arguments],
            env=os.environ | given,
            cwd=services.ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_it_matches_the_models_before_and_after_it_was_taken_back(alembic):
    alembic("upgrade", "head")
    alembic("check")
    alembic("downgrade", "-1")
    alembic("upgrade", "head")
    alembic("check")
