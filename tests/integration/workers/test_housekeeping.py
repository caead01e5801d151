"""Sweeps remove what nobody can ask for any more, and nothing else."""

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.dispatcher.deliveries import POLL_S, DeliveryLoop
from app.domain.job.messages import HOUSEKEEPING_QUEUE, SWEEP
from app.objects import open_objects
from app.store.job import attempts, jobs, retention
from app.store.reports import usage
from tests.support import make, services
from tests.support.cpu_worker import cpu_worker
from workers.cpu import housekeeping


@pytest.fixture
def owner(store):
    return make.owner(store)


@pytest.fixture
def objects(settings):
    return open_objects(
        settings.objects_url, secret_key=settings.secret_key, public_url=settings.public_url
    )


def put(objects, objects_dir, key, age_s=2 * 86_400):
    """Store an object that was last written `age_s` seconds ago."""
    objects.put(key, b"x", "application/octet-stream")
    when = time.time() - age_s
    os.utime(objects_dir / key, (when, when))


def test_a_sweep_removes_old_objects_that_no_row_names_and_nothing_else(
    store, owner, settings, objects, objects_dir, publisher, tmp_path
):
    rendered = make.new_job(owner)
    with store.begin() as tx:
        jobs.add(tx, replace(rendered, input_key=f"inputs/{rendered.id}.jpg"))
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["a"])
        make.begin(tx, rendered.id, placed.fence)
        attempts.finish(
            tx, rendered.id, placed.fence, f"outputs/{rendered.id}/1.mp4", 1, lease_token=make.LEASE
        )
    waiting = make.new_job(owner)
    with store.begin() as tx:
        jobs.add(tx, replace(waiting, input_key=f"inputs/{waiting.id}.jpg"))
    kept = [
        f"inputs/{rendered.id}.jpg",
        f"inputs/{waiting.id}.jpg",
        f"outputs/{rendered.id}/1.mp4",
        "inputs/readme.txt",  # not a key of ours
        "elsewhere/thing",
    ]
    unnamed = [
        f"inputs/{uuid4()}.jpg",
        f"inputs/{rendered.id}.png",
        f"outputs/{rendered.id}/2.mp4",
        f"outputs/{waiting.id}/1.mp4",
        f"outputs/{uuid4()}/1.mp4",
    ]
    young = [f"inputs/{uuid4()}.jpg", f"outputs/{uuid4()}/3.mp4"]
    for key in kept + unnamed:
        put(objects, objects_dir, key)
    for key in young:
        put(objects, objects_dir, key, age_s=86_400 - 600)

    publisher.send(SWEEP, [], queue=HOUSEKEEPING_QUEUE)
    with cpu_worker(settings, tmp_path / "log"):
        services.wait_until(lambda: not any(objects.head(key) for key in unnamed))
    assert {info.key for info in objects.list()} == {*kept, *young}


def test_a_sweep_continues_past_its_batch_size(store, objects, objects_dir):
    for _ in range(housekeeping.BATCH + 1):
        put(objects, objects_dir, f"inputs/{uuid4()}.jpg")
    removed = housekeeping.remove_unreferenced(store, objects, datetime.now(UTC))
    assert removed == housekeeping.BATCH + 1
    assert list(objects.list()) == []


def test_a_sweep_forgets_idempotency_keys_after_a_day(store, owner):
    hours = {"old": 25, "young": 23}
    with store.begin() as tx:
        for key, age in hours.items():
            jobs.add(tx, make.new_job(owner), (key, b"fingerprint"))
            tx.execute(
                text(
                    "UPDATE idempotency_records SET created_at = now() - make_interval(hours => :h)"
                    " WHERE key = :k"
                ),
                {"h": age, "k": key},
            )
    assert housekeeping.in_batches(store, retention.forget_idempotency) == 1
    with store.autocommit() as conn:
        assert jobs.find_by_key(conn, owner, "old") is None
        assert jobs.find_by_key(conn, owner, "young") is not None


def test_two_dispatchers_ask_for_one_sweep(store, publisher, client):
    stopping = Event()
    loops = [DeliveryLoop(store, publisher, client) for _ in range(2)]
    threads = [Thread(target=loop.run, args=(stopping,)) for loop in loops]
    for thread in threads:
        thread.start()
    services.wait_until(lambda: client.llen(HOUSEKEEPING_QUEUE) > 0)
    time.sleep(POLL_S * 1.5)
    stopping.set()
    for thread in threads:
        thread.join(10)
    assert client.llen(HOUSEKEEPING_QUEUE) == 1
    assert json.loads(client.lindex(HOUSEKEEPING_QUEUE, 0))["headers"]["task"] == SWEEP


def test_a_job_that_an_earlier_release_ended_expires_too(store, owner, objects, objects_dir):
    old = make.ended(store, owner, age_s=31 * 86_400, expires_at=None)
    young = make.ended(store, owner, age_s=29 * 86_400, expires_at=None)
    housekeeping.sweep(store, objects, datetime.now(UTC))
    assert make.read(store, old).purged_at is not None
    kept = make.read(store, young)
    assert kept.purged_at is None
    assert kept.expires_at == kept.finished_at + timedelta(seconds=kept.retention_s)


def test_rows_go_a_day_after_their_content(store, owner, objects, objects_dir):
    """Until then a request with their idempotency key must find them."""
    hours = {"old": 25, "young": 23}
    ids = {}
    for name, ago in hours.items():
        purged = datetime.now(UTC) - timedelta(hours=ago)
        ids[name] = make.ended(store, owner, age_s=40 * 86_400, purged_at=purged)
        with store.begin() as tx:
            tx.execute(
                text(
                    "INSERT INTO webhook_deliveries (job_id, owner_id, event, url, given_up_at)"
                    " VALUES (:job, :owner, 'job.succeeded', 'https://example.org/', now())"
                ),
                {"job": ids[name], "owner": owner},
            )
            tx.execute(
                text(
                    "INSERT INTO idempotency_records (owner_id, key, fingerprint, job_id)"
                    " VALUES (:owner, :key, '', :job)"
                ),
                {"job": ids[name], "owner": owner, "key": name},
            )
    with store.begin() as tx:
        usage.roll_up(tx)
    housekeeping.sweep(store, objects, datetime.now(UTC))
    assert make.read(store, ids["old"]) is None
    assert make.read(store, ids["young"]) is not None
    for table in ("attempts", "webhook_deliveries", "idempotency_records"):
        with store.autocommit() as conn:
            left = conn.execute(text(f"SELECT job_id FROM {table}")).scalars().all()
        assert left == [ids["young"]], table


def test_old_tests_of_endpoints_go(store, owner, objects, objects_dir):
    with store.begin() as tx:
        for days in (31, 29):
            tx.execute(
                text(
                    "INSERT INTO webhook_deliveries"
                    " (owner_id, event, url, created_at, delivered_at)"
                    " VALUES (:owner, 'test', 'https://example.org/',"
                    " now() - make_interval(days => :days), now())"
                ),
                {"owner": owner, "days": days},
            )
    housekeeping.sweep(store, objects, datetime.now(UTC))
    with store.autocommit() as conn:
        assert conn.execute(text("SELECT count(*) FROM webhook_deliveries")).scalar_one() == 1
