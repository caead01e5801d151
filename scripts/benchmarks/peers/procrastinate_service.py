"""The same application with Procrastinate: the queue is a table in Postgres.

    gunicorn scripts.benchmarks.peers.procrastinate_service:app
    python -m scripts.benchmarks.peers.procrastinate_service (schema | work)

Procrastinate's row is the job's row, which is the fewest writes that it needs: one for the submit,
one to take the job, one to end it. PEER_DATABASE says where; the other variables are photo_app's.
Runs in the peer's own environment.
"""

import asyncio
import os
import sys
from functools import cache

import procrastinate
from procrastinate.exceptions import NoResult
from procrastinate.jobs import Status

from scripts.benchmarks.peers import photo_app
from scripts.benchmarks.peers.photo_app import Job

DATABASE = os.environ["PEER_DATABASE"]
STATES = {
    Status.TODO: "queued",
    Status.DOING: "processing",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
}

queue = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=DATABASE, max_size=8))


@queue.task(name="animate", queue="animate")  # type: ignore[untyped-decorator]  # as BentoML's
def animate(picture: str) -> None:
    # One name for all attempts: a second render makes the same clip.
    clip = picture.replace("inputs/", "outputs/").replace(".jpg", ".mp4")
    photo_app.render(picture, clip)


@queue.periodic(cron="* * * * *")  # type: ignore[untyped-decorator]  # as above
@queue.task(name="retry_stalled", queueing_lock="retry_stalled", pass_context=True)  # type: ignore[untyped-decorator]
async def retry_stalled(context: procrastinate.JobContext, timestamp: int) -> None:
    """Retry the jobs of workers that died, as Procrastinate's documentation advises."""
    for job in await context.app.job_manager.get_stalled_jobs():
        await context.app.job_manager.retry_job(job)


@cache
def opened() -> procrastinate.App:
    """The application for threads. Opened on first use, after gunicorn has forked."""
    queue.open()
    return queue


def submit(picture: str) -> str:
    opened()
    return str(animate.defer(picture=picture))


def find(job_id: str) -> Job | None:
    try:
        status = opened().job_manager.get_job_status(int(job_id))
    except (ValueError, NoResult):
        return None
    state = STATES.get(status, "failed")  # canceled and aborted: nobody asks for that here
    return {"state": state, "terminal": state in ("succeeded", "failed"), "error": None}


async def work() -> None:
    async with queue.open_async():
        photo_app.worker_ready()
        await queue.run_worker_async(concurrency=1)


app = photo_app.create_app(submit, find)

if __name__ == "__main__":
    if sys.argv[1:] == ["schema"]:
        with queue.open():
            queue.schema_manager.apply_schema()
    else:
        asyncio.run(work())
