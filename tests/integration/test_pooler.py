"""A PgBouncer in transaction mode between the processes and Postgres."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from threading import Thread

import psycopg
import pytest
from sqlalchemy import text

from app.config.settings import ConfigError
from app.store.reports import usage
from app.store.session import Store
from app.store.startup import check_database
from tests.support import make, services
from tests.support.pgbouncer import pgbouncer

ASCII = "TEMPLATE template0 ENCODING SQL_ASCII LOCALE_PROVIDER libc LOCALE 'C'"


def test_statements_of_many_threads_share_few_connections(pooled, database_url):
    store, owner_of = Store.of(pooled, pool_size=12), {}

    def work(n):
        owner_of[n] = make.owner(store)
        for _ in range(8):  # psycopg prepares what it has sent five times
            make.submit(store, owner_of[n])
        with store.begin() as tx:
            day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            [entry] = usage.by_day(tx, owner_of[n], since=day, before=day + timedelta(days=1))
            assert entry["jobs"] == 8
        done.append(n)

    done: list[int] = []
    threads = [Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    store.close()
    assert sorted(done) == list(range(12))


def test_a_statement_that_hangs_ends_by_the_roles_timeout(pooled, database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE CURRENT_USER SET statement_timeout = '300ms'")
    with pgbouncer(database_url) as url:
        store = Store.of(pooled.model_copy(update={"database_url": url}), pool_size=1)
        with pytest.raises(Exception, match="does not answer"), store.autocommit() as conn:
            conn.execute(text("SELECT pg_sleep(20)"))
        store.close()


# --- what cannot work ends at the start, with one sentence ----------------------------------------


def test_what_is_well_configured_starts(pooled, settings, change):
    check_database(pooled)
    check_database(settings)
    lost = f"postgresql://app@127.0.0.1:{services.free_port()}/none"
    check_database(change(database_url=lost))  # it may come back


def test_a_pooler_that_no_setting_names(settings, change, database_url):
    with pgbouncer(database_url) as url:
        done = subprocess.run(
            [sys.executable, "-m", "app.dispatcher"],
            env=services.environment(change(database_url=url)),
            cwd=services.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 78, done.stderr
        assert done.stderr.startswith("app.dispatcher: DATABASE_URL leads to a pooler: ")
        assert len(done.stderr.splitlines()) == 1
        with pytest.raises(ConfigError, match=r"^DATABASE_DIRECT_URL leads to a pooler"):
            check_database(change(database_direct_url=url))
    with (
        pgbouncer(database_url, ignore="options") as url,
        pytest.raises(ConfigError, match=r"^DATABASE_URL leads to a pooler"),
    ):
        check_database(change(database_url=url))


def test_a_pooler_of_statements(role, change, database_url):
    with pgbouncer(database_url, mode="statement") as url:
        config = change(database_url=url, database_direct_url=database_url)
        with pytest.raises(ConfigError, match="must be in transaction mode"):
            check_database(config)


def test_a_role_without_timeouts(change, database_url):
    with pgbouncer(database_url) as url:
        config = change(database_url=url, database_direct_url=database_url)
        with pytest.raises(ConfigError, match="role needs statement_timeout"):
            check_database(config)


def test_an_older_schema_an_empty_database_and_another_encoding(change, database_url):
    base = database_url.rpartition("/")[0]
    with psycopg.connect(database_url, autocommit=True) as connection:
        for name, options in (
            ("empty", ""),
            ("ascii", ASCII),
        ):
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name} {options}")
    with pytest.raises(ConfigError, match=r"schema is empty.* run `stillmotion migrate`\.$"):
        check_database(change(database_url=f"{base}/empty"))
    with psycopg.connect(f"{base}/empty", autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version AS SELECT '0004' AS version_num")
    with pytest.raises(ConfigError, match=r"schema is 0004, and this release needs \d+"):
        check_database(change(database_url=f"{base}/empty"))
    with pytest.raises(ConfigError, match="encoding is SQL_ASCII, and must be UTF8"):
        check_database(change(database_url=f"{base}/ascii"))
