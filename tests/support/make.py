"""Rows for tests to start from."""

import itertools
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select, text

from app.domain.job.state import uuid7
from app.store import keys
from app.store.job import attempts, jobs, placing
from app.store.job.jobs import NewJob
from app.store.job.placing import Offer, Placed
from app.store.job.records import COLUMNS, BegunJob
from app.store.models import AttemptRow, JobRow
from app.store.session import Store
from stillmotion.states import Policy

INPUT_KEY = "inputs/any.jpg"
LEASE = "lease"  # the token of attempts that nobody competes for
_made = itertools.count()


def new_job(owner_id: UUID, **changes: object) -> NewJob:
    """A job that any noop worker can run."""
    # Two of a millisecond sort as they were made: without a stamp, jobs are placed by their ids.
    count = next(_made) % 2**20 << 54
    values = {
        "id": uuid7(time.time_ns() // 1_000_000, count | secrets.randbits(54)),
        "owner_id": owner_id,
        "profile": "noop",
        "prompt": "",
        "seed": 1,
        "frames": 8,
        "fps": 8,
        "size": 64,
        "steps": 4,
        "input_key": INPUT_KEY,
        "home_region": "us-east",
        "policy": "ring",
        "max_queue_s": 900.0,
    }
    return NewJob(**values | changes)


def owner(store: Store) -> UUID:
    with store.begin() as tx:
        return keys.create(tx, "test")[0]


def submit(store: Store, owner_id: UUID, **changes: object) -> UUID:
    job = new_job(owner_id, **changes)
    with store.begin() as tx:
        jobs.add(tx, job)
    return job.id


def read(store: Store, job_id: UUID):
    with store.autocommit() as conn:
        return jobs.read(conn, job_id)


def processing(store: Store) -> list[tuple[UUID, int, int]]:
    """Id, fence and steps of each job that a worker has."""
    with store.autocommit() as conn:
        rows = conn.execute(
            select(JobRow.id, JobRow.fence, JobRow.steps).where(JobRow.state == "processing")
        )
        return [(row.id, row.fence, row.steps) for row in rows]


def attempts_of(store: Store, job_id: UUID):
    with store.autocommit() as conn:
        rows = conn.execute(
            select(AttemptRow.__table__).where(AttemptRow.job_id == job_id).order_by("fence")
        )
        return rows.fetchall()


def backdate(store: Store, job_id: UUID, column: str, seconds: float = 1.0) -> None:
    """Move a timestamp of a job's row into the past instead of waiting."""
    with store.begin() as tx:
        tx.execute(
            text(f"UPDATE jobs SET {column} = now() - make_interval(secs => :s) WHERE id = :id"),
            {"s": seconds, "id": job_id},
        )


def ended(store: Store, owner_id: UUID, *, age_s: float = 3600.0, **changes: object) -> UUID:
    """A job that was submitted `age_s` ago and ended a second later, as rows without a history.

    `changes`: columns of `jobs`.
    """
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    new = new_job(owner_id)
    values = {
        **{
            name: value
            for name, value in vars(new).items()
            if name in COLUMNS and value is not None
        },
        "id": uuid7(int(at.timestamp() * 1000), secrets.randbits(74)),
        "state": "succeeded",
        "created_at": at,
        "next_region": new.home_region,
        "queue_deadline": at + timedelta(minutes=15),
        "finished_at": at + timedelta(seconds=1),
        "expires_at": at + timedelta(days=30),
    } | changes
    if values["state"] == "succeeded":
        values |= {"fence": 1, "begun": 1, "region": "us-east", "output_key": "outputs/any.mp4"}
    if values["state"] == "failed":
        values |= {"error_code": "render_failed"}
    with store.begin() as tx:
        tx.execute(insert(jobs.jobs).values(values))
        if values["state"] == "succeeded":
            tx.execute(
                insert(AttemptRow.__table__).values(
                    job_id=values["id"],
                    fence=1,
                    region="us-east",
                    token="t",
                    placed_at=at,
                    begun_at=at,
                    worker="w",
                    ended_at=values["finished_at"],
                    outcome="succeeded",
                )
            )
    return values["id"]


def place(
    tx: Connection,
    profile: str,
    source: str,
    target: str,
    tokens: list[str],
    *,
    seen: int = 500,
    hops: Sequence[dict[str, Any]] = (),
) -> list[Placed]:
    """Place the first jobs waiting for `source` that may go to `target`, one per token."""
    waiting = placing.peek(tx, profile, [source], open_regions=[target], limit=seen)
    offers = [
        Offer(job.job_id, list(hops))
        for job in waiting
        if source == target
        or (
            job.request.policy is not Policy.STRICT
            and (job.request.allowed is None or target in job.request.allowed)
        )
    ]
    return placing.place(tx, target, offers, tokens)


def begin(
    tx: Connection,
    job_id: UUID,
    fence: int,
    *,
    worker: str = "w",
    attempt_limit_s: float = 60.0,
    lease_token: str = LEASE,
) -> BegunJob | None:
    """Begin a placement in the region that it was made in."""
    region = tx.execute(text("SELECT region FROM jobs WHERE id = :id"), {"id": job_id})
    return attempts.begin(
        tx,
        job_id,
        fence,
        worker=worker,
        attempt_limit_s=attempt_limit_s,
        lease_token=lease_token,
        region=region.scalar_one(),
    )
