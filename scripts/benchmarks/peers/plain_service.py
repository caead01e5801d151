"""The plain application: Flask, a row in Postgres, a Celery task over Valkey.

    gunicorn scripts.benchmarks.peers.plain_service:app
    celery -A scripts.benchmarks.peers.plain_service worker
    celery -A scripts.benchmarks.peers.plain_service beat
    python -m scripts.benchmarks.peers.plain_service schema

The row is the truth and the message a hint: `sweep` sends it again if it was lost. PEER_DATABASE
and PEER_BROKER say where; the other variables are photo_app's. Runs in the peer's own environment.
"""

import os
import sys
import uuid
from functools import cache

import psycopg
from celery import Celery
from celery.signals import worker_ready
from psycopg_pool import ConnectionPool

from scripts.benchmarks.peers import photo_app
from scripts.benchmarks.peers.photo_app import Job

SCHEMA = """
    CREATE TABLE IF NOT EXISTS jobs (
        id uuid PRIMARY KEY,
        state text NOT NULL DEFAULT 'queued'
            CHECK (state IN ('queued', 'processing', 'succeeded', 'failed')),
        picture text NOT NULL,
        clip text,
        error text,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        finished_at timestamptz
    );
    CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (created_at)
        WHERE state IN ('queued', 'processing');
"""
# Lost with the last moments before a power cut, the mark costs a second render: no need to wait.
BEGIN = """
    UPDATE jobs SET state = 'processing', started_at = now()
    WHERE id = %s AND state IN ('queued', 'processing')
        AND set_config('synchronous_commit', 'off', true) = 'off'
    RETURNING picture
"""
FINISH = """
    UPDATE jobs SET state = 'succeeded', clip = %s, finished_at = now()
    WHERE id = %s AND state = 'processing'
"""
FAIL = """
    UPDATE jobs SET state = 'failed', error = %s, finished_at = now()
    WHERE id = %s AND state = 'processing'
"""
LOST = """
    SELECT id FROM jobs
    WHERE state = 'queued' AND created_at < now() - interval '5 min'
        OR state = 'processing' AND started_at < now() - interval '15 min'
"""

celery = Celery("plain", broker=os.environ["PEER_BROKER"])
celery.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_default_queue="plain",
    worker_prefetch_multiplier=1,
    broker_transport_options={"socket_timeout": 10, "visibility_timeout": 3600},
    beat_schedule={"sweep": {"task": "plain.sweep", "schedule": 60.0}},
)


@cache
def pool() -> ConnectionPool[psycopg.Connection]:
    """This process's connections. Made on first use, because a forked one cannot be shared."""
    return ConnectionPool(
        os.environ["PEER_DATABASE"],
        kwargs={"autocommit": True},
        min_size=1,
        max_size=8,
        open=True,
    )


def submit(picture: str) -> str:
    job_id = str(uuid.uuid4())
    with pool().connection() as conn:
        conn.execute("INSERT INTO jobs (id, picture) VALUES (%s, %s)", (job_id, picture))
    animate.delay(job_id)  # after the commit, so that the worker finds the row
    return job_id


def find(job_id: str) -> Job | None:
    with pool().connection() as conn:
        row = conn.execute("SELECT state, error FROM jobs WHERE id = %s", (job_id,)).fetchone()
    if row is None:
        return None
    state, error = row
    return {"state": state, "terminal": state in ("succeeded", "failed"), "error": error}


@celery.task(name="plain.animate")  # type: ignore[untyped-decorator]  # Celery has no types
def animate(job_id: str) -> None:
    with pool().connection() as conn:
        row = conn.execute(BEGIN, (job_id,)).fetchone()
    if row is None:
        return  # delivered again after its end
    clip = f"outputs/{job_id}/{uuid.uuid4()}.mp4"  # its own: a redelivered task may run meanwhile
    try:
        photo_app.render(row[0], clip)
    except OSError as error:
        with pool().connection() as conn:
            conn.execute(FAIL, (str(error), job_id))
        return
    with pool().connection() as conn:
        conn.execute(FINISH, (clip, job_id))


@celery.task(name="plain.sweep")  # type: ignore[untyped-decorator]  # as above
def sweep() -> None:
    """Send the tasks of jobs again whose message seems lost."""
    with pool().connection() as conn:
        lost = conn.execute(LOST).fetchall()
    for (job_id,) in lost:
        animate.delay(str(job_id))


@worker_ready.connect  # type: ignore[untyped-decorator]  # as above
def tell_ready(**_: object) -> None:
    photo_app.worker_ready()


app = photo_app.create_app(submit, find)

if __name__ == "__main__" and sys.argv[1:] == ["schema"]:
    with psycopg.connect(os.environ["PEER_DATABASE"], autocommit=True) as connection:
        connection.execute(SCHEMA)
