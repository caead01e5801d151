"""What the embedded servers may do: the role in Postgres, and the folders of their user."""

import os
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from scripts.stack import Services
from scripts.stack.data import DataDir
from scripts.stack.programs import CLEAN_ENV, POSTGRES
from scripts.stack.user import give, identity, server_user

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with Services(environ={}) as started:
        yield started


def role(url: str) -> tuple:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT rolname, rolsuper, rolcreaterole, rolreplication, rolbypassrls"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()


def test_the_role_in_postgres_is_no_superuser(services):
    assert role(services.env["DATABASE_URL"]) == ("app", False, False, False, False)


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/hostname')",
        "ALTER SYSTEM SET log_statement = 'all'",
        "ALTER ROLE app SUPERUSER",
        "SET ROLE postgres",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_sql_does_not_reach_the_machine(services, statement):
    with (
        psycopg.connect(services.env["DATABASE_URL"], autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_nobody_can_sign_in_as_the_superuser(services):
    url = services.env["DATABASE_URL"].replace("//app:", "//postgres:")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(url)


def test_a_cluster_of_an_earlier_release_keeps_its_data_and_loses_its_superuser(place):
    data = DataDir(place / "data")
    password = data.secret("postgres_password")
    make_earlier_cluster(data, password)
    data.close()
    for _ in range(2):
        with Services(place / "data", environ={}) as services:
            url = services.env["DATABASE_URL"]
            assert role(url) == ("app", False, False, False, False)
            with psycopg.connect(url) as connection:
                # Rows, an identity, a function and a trigger: all can be used and replaced.
                connection.execute("INSERT INTO kept (value) VALUES ('later')")
                rows = connection.execute("SELECT id, value FROM kept ORDER BY id").fetchall()
                connection.execute("ALTER TABLE kept ADD COLUMN IF NOT EXISTS more text")
                connection.execute(
                    "CREATE OR REPLACE FUNCTION f() RETURNS trigger AS"
                    " 'BEGIN RETURN NEW; END' LANGUAGE plpgsql"
                )
    assert rows == [(1, "earlier"), (2, "later"), (3, "later")]


def make_earlier_cluster(data: DataDir, password: str) -> None:
    """As releases before this one did: the role of the service is the cluster's superuser."""
    binary, cluster = POSTGRES.find(data), data.path / "postgres"
    cluster.mkdir()
    give(cluster, server_user())
    file = data.path / "password"
    file.write_text(password)
    give(file, server_user())
    initdb = [binary.with_name("initdb"), "-D", cluster, "-U", "app", "--no-sync"]
    initdb += ["--auth=scram-sha-256", f"--pwfile={file}", "-E", "UTF8", "--no-locale"]
    options = {"env": CLEAN_ENV, "cwd": "/", "check": True, "capture_output": True}
    options |= identity(server_user())
    subprocess.run(initdb, **options)
    single = [binary, "--single", "-j", "-D", cluster]
    subprocess.run([*single, "postgres"], input=b"CREATE DATABASE stillmotion;\n\n", **options)
    tables = b"""
        CREATE TABLE kept (id int GENERATED ALWAYS AS IDENTITY, value text);\n\n
        CREATE FUNCTION f() RETURNS trigger AS 'BEGIN RETURN NEW; END' LANGUAGE plpgsql;\n\n
        CREATE TRIGGER t BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION f();\n\n
        INSERT INTO kept (value) VALUES ('earlier');\n\n
    """
    done = subprocess.run([*single, "stillmotion"], input=tables, **options)
    assert b"ERROR" not in done.stderr


@needs_root
def test_a_link_in_a_server_s_folder_does_not_lead_root_astray(place):
    """A server that was taken over owns its folder, and root writes into it at the next start."""
    with Services(place / "data", environ={}):
        pass
    victim = place / "victim"
    victim.write_text("root's own")
    for path in (place / "data/valkey/valkey.conf", place / "data/postgres/pg_hba.conf"):
        path.unlink()
        path.symlink_to(victim)
    with Services(place / "data", environ={}) as services:
        assert role(services.env["DATABASE_URL"])[0] == "app"
    assert victim.read_text() == "root's own"
    assert victim.stat().st_uid == 0
