"""A database or bucket restored to an earlier moment, then repaired as the guide says."""

import json
import subprocess
import sys
import time
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from app.api.application import create_app
from app.store import keys
from app.store.session import Store
from scripts.benchmarks import scale_rows
from scripts.stack.data import DataDir
from scripts.stack.databases import drop_database
from tests.support import make, runbook, services
from tests.support.fleet import fleet as make_fleet
from tests.support.postgres import CrashingPostgres

ROWS = 3_000  # of the rehearsal


@pytest.fixture
def restored_settings(settings):
    """Settings that name a second, empty database on the same server."""
    parts = urlsplit(settings.database_url)
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        drop_database(connection, "restored")
        connection.execute("CREATE DATABASE restored")
        yield settings.model_copy(
            update={"database_url": urlunsplit(parts._replace(path="/restored"))}
        )
        drop_database(connection, "restored")


def run(program, *arguments):
    subprocess.run([runbook.BIN / program, *arguments], check=True, timeout=60)


def reconcile(settings, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "stillmotion.cli", "reconcile", "--json", *arguments],
        env=services.environment(settings),
        cwd=services.ROOT,
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def test_a_database_restored_to_an_earlier_moment_names_no_missing_clip(
    fleet, settings, restored_settings, tmp_path
):
    dispatcher, worker = fleet.dispatcher(), fleet.worker().wait_ready()
    kept = fleet.wait(fleet.submit(), "succeeded")
    deleted = fleet.wait(fleet.submit(), "succeeded")
    dispatcher.kill()
    waiting = fleet.submit()
    with fleet.store.begin() as tx:
        owner, key = keys.create(tx, "client")
    seen = make.submit(fleet.store, owner)

    run("pg_dump", "-Fc", "-f", tmp_path / "dump", settings.database_url)

    dispatcher = fleet.dispatcher()
    assert fleet.wait(waiting, "succeeded") and fleet.wait(seen, "succeeded")
    later = fleet.wait(make.submit(fleet.store, owner), "succeeded")
    fleet.objects.delete(deleted.output_key)  # as its owner's DELETE does
    dispatcher.kill(), worker.kill()
    run("pg_restore", "-d", restored_settings.database_url, tmp_path / "dump")

    found = reconcile(restored_settings, "--dry-run", status=8)
    assert found == {"checked": 2, "missing": 1, "expired": 0}
    assert reconcile(restored_settings) == {"checked": 2, "missing": 1, "expired": 1}
    assert reconcile(restored_settings, "--dry-run") == {"checked": 1, "missing": 0, "expired": 0}

    restored = Store(restored_settings.sqlalchemy_url, pool_size=4)
    try:
        with make_fleet(restored_settings, restored, tmp_path) as after:
            after.dispatcher(), after.worker().wait_ready()
            for job_id in (waiting, seen):
                job = after.wait(job_id, "succeeded")
                assert after.objects.head(job.output_key) is not None
            assert after.objects.head(after.read(kept.id).output_key) is not None
        client = create_app(restored_settings).test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        assert client.get(f"/v1/jobs/{seen}").json["state"] == "succeeded"
        assert client.get(f"/v1/jobs/{seen}/video").status_code == 302
        # Accepted after the backup, so it is lost without a trace.
        assert client.get(f"/v1/jobs/{later.id}").status_code == 404
    finally:
        restored.close()


def test_a_bucket_restored_to_an_earlier_moment_expires_what_it_lost(fleet, settings):
    fleet.dispatcher(), fleet.worker().wait_ready()
    with fleet.store.begin() as tx:
        owner, key = keys.create(tx, "client")
    jobs = [fleet.wait(make.submit(fleet.store, owner), "succeeded") for _ in range(3)]
    fleet.objects.delete(jobs[2].output_key)
    assert reconcile(settings) == {"checked": 3, "missing": 1, "expired": 1}
    client = create_app(settings).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    shown = [client.get(f"/v1/jobs/{job.id}").status_code for job in jobs]
    assert shown == [200, 200, 410]


def test_the_runbook_s_restore_brings_back_every_job(
    fleet, settings, restored_settings, tmp_path, record_property, capsys
):
    """The commands of infra/RUNBOOK.md, in their order, with figures."""
    fleet.dispatcher(), fleet.worker().wait_ready()
    kept = fleet.wait(fleet.submit(), "succeeded")
    lost = fleet.wait(fleet.submit(), "succeeded")
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        scale_rows.add_finished(connection, fleet.owner, ROWS, days=30, purged=True)
    dump, _, restore, repair = runbook.blocks()[runbook.RESTORE]
    variables = services.environment(settings) | {
        "BACKUP": tmp_path,
        "RESTORED_URL": restored_settings.database_url,
    }
    fleet.objects.delete(lost.output_key)  # the bucket is older, or has lost it
    figures: dict[str, float] = {"rows": ROWS + 2}
    for name, block in {"dump": dump, "restore": restore, "reconcile": repair}.items():
        began = time.monotonic()
        runbook.play(block, variables)
        figures[f"{name}_s"] = round(time.monotonic() - began, 1)
    figures["dump_kb"] = (tmp_path / "stillmotion.dump").stat().st_size // 1000
    record_property("restore", figures)
    with capsys.disabled():
        print(f"\nrestore: {figures}")
    with psycopg.connect(restored_settings.database_url) as connection:
        [found] = connection.execute("SELECT count(*) FROM jobs").fetchall()
        assert found == (ROWS + 2,)
        query = "SELECT expires_at <= now() FROM jobs WHERE id = %s"
        assert connection.execute(query, (lost.id,)).fetchall() == [(True,)]
        assert connection.execute(query, (kept.id,)).fetchall() == [(False,)]
    assert figures["dump_s"] + figures["restore_s"] < 120


def test_the_runbook_s_base_backup_is_a_server_that_starts(tmp_path):
    _, base, *_ = runbook.blocks()[runbook.RESTORE]
    primary = CrashingPostgres(DataDir(None))
    try:
        primary.start()
        with psycopg.connect(primary.superuser_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        runbook.play(base, {"BACKUP": tmp_path, "REPLICATION_URL": primary.superuser_url})
        primary.crash()
        primary.replace_with(tmp_path / "base")
        primary.start()
        assert primary.query("SELECT count(*) FROM kept") == [(1000,)]
    finally:
        primary.close()
