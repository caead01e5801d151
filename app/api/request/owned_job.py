"""The caller's own jobs: look-up, cancel, delete, and the link to the clip."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from flask import g
from sqlalchemy import Connection

from app.api.process.services import Services
from app.domain.errors import BadRequest, StorageUnavailable
from app.store.job import jobs, retention, slots
from app.store.job.records import JobRecord, OwnJob, WholeJob
from stillmotion.states import JobState

R = TypeVar("R", bound=OwnJob)


def own_job(conn: Connection, job_id: str) -> JobRecord:
    """One of the caller's jobs. Raises BadRequest: job_not_found, job_deleted."""
    return _own(job_id, lambda known: jobs.get(conn, known, owner_id=g.api_key.id))


def own_whole_job(conn: Connection, job_id: str) -> WholeJob:
    """Like `own_job`, with every placement."""
    return _own(job_id, lambda known: jobs.get_whole(conn, known, owner_id=g.api_key.id))


def _own(job_id: str, get: Callable[[UUID], R | None]) -> R:
    """Malformed ids and other owners' jobs are unknown too, so that nobody can probe for them."""
    try:
        job = get(UUID(job_id))
    except ValueError:
        job = None
    if job is None:
        raise BadRequest("job_not_found", "No such job.", status=404)
    refuse_gone(job)
    return job


def refuse_gone(job: OwnJob) -> None:
    """Raises BadRequest (job_deleted, 410) for a tombstone, and for a job about to become one."""
    if job.purged_at is not None or job.expired:
        raise BadRequest(
            "job_deleted", "The job was deleted, or its retention time has passed.", status=410
        )


def cancel(services: Services, job_id: str) -> tuple[JobRecord, JobRecord]:
    """Cancel a job that has not ended, and notify everyone concerned: its record before and after.

    Raises BadRequest: job_not_found, job_deleted.
    """
    with services.store.begin() as tx:
        before = own_job(tx, job_id)
        after = jobs.cancel(tx, before.id, owner_id=g.api_key.id)
        if after is None:  # cannot happen: rows of jobs are never removed
            raise BadRequest("job_not_found", "No such job.", status=404)
        ended = JobState(after.state).terminal
        if after.slot is not None and ended:
            slots.grant(tx, after.owner_id, services.settings.key_concurrency or None)
    if JobState(before.state).terminal:
        return before, after
    if ended:
        services.webhook_due()
        if after.slot is not None:
            services.wake()
        services.changed(before.region or before.next_region, after.id)
    elif after.region is not None:
        services.ask_stop(after.region, after.id, after.fence)
    return before, after


def remove(services: Services, job_id: str) -> tuple[JobRecord, bool]:
    """Delete a job: its record, and whether it is gone already or its worker has to stop first.

    Raises BadRequest: job_not_found, job_deleted.
    """
    _, job = cancel(services, job_id)
    if not JobState(job.state).terminal:
        with services.store.autocommit() as conn:
            retention.keep_no_longer(conn, job.id, owner_id=g.api_key.id)
        return job, False
    with services.store.autocommit() as conn:
        purged = retention.purge(conn, job.id, owner_id=g.api_key.id)
    if purged is not None:
        # What storage keeps for now, no row names any more: the sweeper removes it.
        with suppress(StorageUnavailable):
            for key in purged.keys:
                services.objects.delete(key)
    return job, True


def clip_url(services: Services, job_id: str) -> str:
    """A freshly signed URL of the clip.

    Raises BadRequest: job_not_found, job_deleted, job_not_finished, job_has_no_video.
    """
    with services.store.autocommit() as conn:
        job = own_job(conn, job_id)
    output = services.links.output(job)
    if output is None:
        ended = JobState(job.state).terminal
        raise BadRequest(
            "job_has_no_video" if ended else "job_not_finished",
            f"The job is {job.state}; only a succeeded job has a video.",
            status=409,
        )
    return output.url
