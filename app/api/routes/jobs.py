"""Show, list, cancel and delete jobs."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from flask import Blueprint, g, redirect, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, Row

from app.api.models.answers import JobPage, Timeline
from app.api.models.order_schema import PageQuery, page_values
from app.api.models.schemas import Job, dump_job, parse_strings
from app.api.openapi.operation import JOB_CODES, Answer, describe
from app.api.process.services import Services, services
from app.api.request import auth, job_view
from app.api.request.gone import refuse_gone
from app.domain.errors import BadRequest, StorageUnavailable
from app.public import timeline
from app.store.job import jobs, retention, slots
from app.store.job.jobs import Filter
from stillmotion.states import JobState

bp = Blueprint("jobs", __name__, url_prefix="/v1/jobs")
bp.before_request(auth.require_jobs)


@bp.get("")
@describe({200: Answer("A page of jobs.", JobPage)}, query=PageQuery)
def list_jobs() -> ResponseReturnValue:
    """List the caller's jobs, newest first; `next` is the `after` of the following page."""
    parts = services()
    query = parse_strings(PageQuery, page_values(request.args.to_dict()))
    only = Filter(
        cursor=query.after,
        state=None if query.state is None else query.state.value,
        created_from=query.created_after,
        created_before=query.created_before,
        labels=query.metadata,
    )
    with parts.store.autocommit() as conn:
        # One more tells whether there is a next page.
        rows = jobs.page(conn, g.api_key.id, limit=query.limit + 1, only=only)
    shown, more = rows[: query.limit], len(rows) > query.limit
    return {
        "object": "list",
        "data": [dump_job(row, parts.links) for row in shown],
        "has_more": more,
        "next": str(shown[-1].id) if more else None,
    }


@bp.get("/<job_id>")
@describe({200: Answer("The job.", Job, headers=("Retry-After",))}, codes=JOB_CODES)
def show_job(job_id: str) -> ResponseReturnValue:
    """Show one of the caller's jobs: its attempts, its place in the queue, its step, its end."""
    parts = services()
    with parts.store.autocommit() as conn:
        row = own(conn, job_id, jobs.get_whole)
    shown = job_view.show(parts, row)
    return shown, 200, job_view.poll_hint(shown)


@bp.get("/<job_id>/timeline")
@describe({200: Answer("The timeline.", Timeline)}, codes=JOB_CODES)
def show_timeline(job_id: str) -> ResponseReturnValue:
    """Show everything that happened to a job, in order, and how long each took."""
    with services().store.autocommit() as conn:
        row = own(conn, job_id, jobs.get_whole)
    return {"object": "timeline", "job_id": str(row.id), "data": timeline.of(row)}


@bp.post("/<job_id>/cancel")
@describe(
    {
        200: Answer("The job has ended by that.", Job, leads_to=("stream_events",)),
        202: Answer("Its worker was asked to stop.", Job),
    },
    codes=(*JOB_CODES, "job_already_ended"),
)
def cancel_job(job_id: str) -> ResponseReturnValue:
    """Cancel a job: at once while it waits, within one denoising step while it renders."""
    parts = services()
    before, row = _cancel(parts, job_id)
    state = JobState(row.state)
    if JobState(before.state).terminal or (state.terminal and state is not JobState.CANCELED):
        raise BadRequest("job_already_ended", f"The job has ended: {state}.", status=409)
    return dump_job(row, parts.links), 200 if state.terminal else 202


@bp.delete("/<job_id>")
@describe(
    {
        202: Answer("Its worker has to stop first; the job is canceled and then removed.", Job),
        204: Answer("It is removed."),
    },
    codes=JOB_CODES,
)
def delete_job(job_id: str) -> ResponseReturnValue:
    """Remove a job's picture, clip and texts; from then on it is 410.

    One that is being rendered is canceled by that.
    """
    parts = services()
    row, gone = remove(parts, job_id)
    return ("", 204) if gone else (dump_job(row, parts.links), 202)


def remove(parts: Services, job_id: str) -> tuple[Row[Any], bool]:
    """Delete a job of the caller's: its row, and whether it is gone or its worker has to stop."""
    _, row = _cancel(parts, job_id)
    if not JobState(row.state).terminal:
        with parts.store.autocommit() as conn:
            retention.keep_no_longer(conn, row.id, owner_id=g.api_key.id)
        return row, False
    with parts.store.autocommit() as conn:
        purged = retention.purge(conn, row.id, owner_id=g.api_key.id)
    if purged is not None:
        # What storage keeps for now, no row names any more: the sweeper removes it.
        with suppress(StorageUnavailable):
            for key in filter(None, (purged.input_key, purged.output_key)):
                parts.objects.delete(key)
    return row, True


def _cancel(parts: Services, job_id: str) -> tuple[Row[Any], Row[Any]]:
    """Cancel what has not ended; the row before and after, with everybody told who must know."""
    with parts.store.begin() as tx:
        before = own(tx, job_id)
        row = jobs.cancel(tx, before.id, owner_id=g.api_key.id)
        if row.slot is not None and JobState(row.state).terminal:
            slots.grant(tx, row.owner_id, parts.settings.key_concurrency or None)
    if JobState(before.state).terminal:
        return before, row
    if JobState(row.state).terminal:
        parts.webhook_due()
        if row.slot is not None:
            parts.wake()
        parts.changed(before.region or before.next_region, row.id)
    else:
        parts.ask_stop(row.region, row.id, row.fence)
    return before, row


@bp.get("/<job_id>/video")
@describe(
    {302: Answer("Where the clip is.", headers=("Location",))},
    codes=(*JOB_CODES, "job_not_finished", "job_has_no_video"),
)
def open_video(job_id: str) -> ResponseReturnValue:
    """Redirect to a fresh signed URL of the clip."""
    return redirect(video_url(services(), job_id), 302)


def video_url(parts: Services, job_id: str) -> str:
    """A fresh signed URL of a clip. Raises BadRequest: job_not_finished, job_has_no_video."""
    with parts.store.autocommit() as conn:
        row = own(conn, job_id)
    output = parts.links.output(row)
    if output is None:
        ended = JobState(row.state).terminal
        raise BadRequest(
            "job_has_no_video" if ended else "job_not_finished",
            f"The job is {row.state}; only a succeeded one has a video.",
            status=409,
        )
    return output.url


def own(tx: Connection, job_id: str, get: Callable[..., Row[Any] | None] = jobs.get) -> Row[Any]:
    """One of the caller's jobs. Another owner's, and what cannot be an id, is as unknown as none.

    Raises BadRequest: job_not_found, job_deleted.
    """
    try:
        row = get(tx, UUID(job_id), owner_id=g.api_key.id)
    except ValueError:
        row = None
    if row is None:
        raise BadRequest("job_not_found", "There is no job of this id.", status=404)
    refuse_gone(row)
    return row
