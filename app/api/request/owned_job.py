"""Jobs that the caller may reach: look-up, cancel, delete, and the link to the clip."""

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
from app.store.keys import ApiKey
from app.store.traffic import audit
from app.store.traffic.audit import Verb
from stillmotion.states import JobState

R = TypeVar("R", bound=OwnJob)


def own_job(conn: Connection, job_id: str) -> JobRecord:
    """One of the caller's jobs. Raises BadRequest: job_not_found, job_deleted."""
    return _known(job_id, lambda known: jobs.get(conn, known, owner_id=g.api_key.id))


def visible_job(conn: Connection, job_id: str, verb: Verb) -> WholeJob:
    """One of the caller's jobs with every placement; an operator sees any job, and is audited.

    Raises BadRequest: job_not_found, job_deleted.
    """
    return _known(job_id, lambda known: _visible(conn, known, verb))


def _visible(conn: Connection, job_id: UUID, verb: Verb) -> WholeJob | None:
    key: ApiKey = g.api_key
    job = jobs.get_whole(conn, job_id, owner_id=key.id)
    if job is None and "admin" in key.scopes:
        job = jobs.read_whole(conn, job_id)
        if job is not None:
            # Before anything is shown: without an entry, no access.
            audit.note_access(conn, key, verb, str(job_id))
    return job


def _known(job_id: str, get: Callable[[UUID], R | None]) -> R:
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

    An operator may cancel any job. Raises BadRequest: job_not_found, job_deleted.
    """
    with services.store.begin() as tx:
        before = visible_job(tx, job_id, "jobs.cancel")
        after = _cancel(services, tx, before)
    _notify(services, before, after)
    return before, after


def remove(services: Services, job_id: str) -> tuple[JobRecord, bool]:
    """Delete a job: its record, and whether it is gone already or its worker has to stop first.

    Raises BadRequest: job_not_found, job_deleted.
    """
    purged = None
    # One transaction: between two of them, the end would be announced with the job's content.
    with services.store.begin() as tx:
        before = own_job(tx, job_id)
        retention.keep_no_longer(tx, before.id, owner_id=before.owner_id)
        after = _cancel(services, tx, before)
        gone = JobState(after.state).terminal
        if gone:
            purged = retention.purge(tx, before.id, owner_id=before.owner_id)
    _notify(services, before, after)
    if purged is not None:
        # What storage keeps for now, no row names any more: the sweeper removes it.
        with suppress(StorageUnavailable):
            for key in purged.keys:
                services.objects.delete(key)
    return after, gone


def _cancel(services: Services, tx: Connection, job: JobRecord) -> JobRecord:
    after = jobs.cancel(tx, job.id, owner_id=job.owner_id)
    if after is None:  # cannot happen: a job's row stays for a day after it has become a tombstone
        raise BadRequest("job_not_found", "No such job.", status=404)
    if after.slot is not None and JobState(after.state).terminal:
        slots.grant(tx, after.owner_id, services.settings.key_concurrency or None)
    return after


def _notify(services: Services, before: JobRecord, after: JobRecord) -> None:
    if JobState(before.state).terminal:
        return
    if JobState(after.state).terminal:
        services.webhook_due()
        if after.slot is not None:
            services.wake()
        services.changed(before.region or before.next_region, after.id)
    elif after.region is not None:
        services.ask_stop(after.region, after.id, after.fence)


def clip_url(services: Services, find: Callable[[Connection], JobRecord]) -> str:
    """A freshly signed URL of the clip of the job that `find` returns.

    Raises BadRequest: job_not_found, job_deleted, job_not_finished, job_has_no_video.
    """
    with services.store.autocommit() as conn:
        job = find(conn)
    output = services.links.output(job)
    if output is None:
        ended = JobState(job.state).terminal
        raise BadRequest(
            "job_has_no_video" if ended else "job_not_finished",
            f"The job is {job.state}; only a succeeded job has a video.",
            status=409,
        )
    return output.url
