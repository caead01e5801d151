"""Removes data that has expired: pictures and clips of expired jobs, old uploads, unreferenced
objects, old idempotency records; and a day later the rows of those jobs.

Unreferenced objects come from submits that died between storage and database, and from attempts
that lost their job after the upload.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from threading import Lock
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy import Connection

from app.objects import Objects
from app.store.job import retention
from app.store.session import Store

log = structlog.get_logger(__name__)

BATCH = 500
MOST = 100_000  # rows of one kind in one sweep; the next goes on
UPLOADS = "uploads/"  # uploads/<owner>/<upload>, written by clients
# Far longer than a submit takes from object to row, or an attempt from upload to Finish.
UNREFERENCED_S = 86_400

# Only keys of these two forms are ever deleted: inputs/<job>.<ext> and
# outputs/<job>/<fence>-<lease token>.mp4. Clips of earlier releases have no token.
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OURS = re.compile(rf"inputs/({_UUID})\.[a-z0-9]+|outputs/({_UUID})/[0-9]+(-[0-9a-f]+)?\.mp4")

_sweeping = Lock()


def sweep(store: Store, objects: Objects, now: datetime) -> None:
    """Sweep once. The next sweep repeats whatever fails. `now`: the database's time.

    Does nothing while this process is already sweeping: if listing the store takes longer than the
    period, sweeps must not take thread after thread from the webhooks.
    Raises DatabaseUnavailable or StorageUnavailable.
    """
    if not _sweeping.acquire(blocking=False):
        return
    try:
        records = in_batches(store, retention.forget_idempotency)
        in_batches(store, retention.date_undated)
        expired = purge_expired(store, objects)
        deleted = in_batches(store, retention.delete_tombstones)
        in_batches(store, retention.delete_tests)
        removed = remove_unreferenced(store, objects, now)
    finally:
        _sweeping.release()
    log.info(
        "sweep_done",
        objects=removed,
        expired_jobs=expired,
        deleted_jobs=deleted,
        idempotency_records=records,
    )


class Step(Protocol):
    """One short transaction; returns how many rows it worked on, at most `limit`."""

    def __call__(self, tx: Connection, *, limit: int) -> int: ...


def in_batches(store: Store, step: Step) -> int:
    """Repeat `step` until nothing is left to do, or MOST rows are done. Returns how many."""
    total = 0
    while total < MOST:
        with store.autocommit() as conn:
            done = step(conn, limit=BATCH)
        total += done
        if done < BATCH:
            break
    return total


def purge_expired(store: Store, objects: Objects) -> int:
    """Turn jobs past their retention into tombstones. Returns how many.

    The row first: a sweep that dies in between leaves unreferenced objects, not a job whose clip is
    missing.
    """
    total = 0
    while True:
        with store.autocommit() as conn:
            expired = retention.purge_expired(conn, limit=BATCH)
        for job in expired:
            for key in job.keys:
                objects.delete(key)
        total += len(expired)
        if len(expired) < BATCH:
            return total


def remove_unreferenced(store: Store, objects: Objects, now: datetime) -> int:
    """Delete old objects that no row references, uploads included. Returns how many."""
    old = now - timedelta(seconds=UNREFERENCED_S)
    removed = 0
    for info in objects.list(UPLOADS, old):
        objects.delete(info.key)
        removed += 1
    for prefix in ("inputs/", "outputs/"):
        for keys in _batches(info.key for info in objects.list(prefix, old)):
            owners = {key: job_id for key in keys if (job_id := job_of(key)) is not None}
            # Read after listing, so that only rows written within the last day could be missed.
            with store.autocommit() as conn:
                referenced = retention.named_keys(conn, set(owners.values()))
            for key in owners.keys() - referenced:
                objects.delete(key)
                removed += 1
    return removed


def job_of(key: str) -> UUID | None:
    """The job that an object belongs to, or None for a key that this service does not write."""
    match = _OURS.fullmatch(key)
    return UUID(match[1] or match[2]) if match else None


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    walk = iter(keys)
    while batch := list(islice(walk, BATCH)):
        yield batch
