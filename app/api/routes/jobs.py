"""List, show, cancel and delete jobs."""

from flask import Blueprint, g, redirect, request

from app.api.models.base import EmptyBody
from app.api.models.job import JobPage, PageQuery, page_values
from app.api.models.query_string import parse_query
from app.api.openapi.operation import JOB_CODES, ResponseSpec, Result, describe
from app.api.process.services import get_services
from app.api.request import auth, job_view, owned_job
from app.api.request.json_body import read_body
from app.domain.errors import BadRequest
from app.public.job import Job
from app.public.present import present_job
from app.public.timeline import Timeline, timeline_of
from app.store.job import lists
from app.store.job.lists import Filter
from stillmotion.states import JobState

bp = Blueprint("jobs", __name__, url_prefix="/v1/jobs")
# What operators may do to jobs of other keys.
FOR_OPERATORS = frozenset(
    f"jobs.{view}" for view in ("show_job", "show_timeline", "cancel_job", "open_video")
)


@bp.before_request
def _authorise() -> None:
    if request.endpoint in FOR_OPERATORS:
        auth.require_jobs_or_admin()
    else:
        auth.require_jobs()


@bp.get("")
@describe({200: ResponseSpec("A page of jobs.", JobPage)}, query=PageQuery)
def list_jobs() -> Result:
    """List the caller's jobs, newest first; send `next` as `after` to get the following page."""
    services = get_services()
    query = parse_query(PageQuery, request.query_string, page_values)
    only = Filter(
        cursor=query.after,
        state=None if query.state is None else query.state.value,
        created_from=query.created_after,
        created_before=query.created_before,
        labels=query.metadata,
    )
    with services.store.autocommit() as conn:
        found = lists.page(conn, g.api_key.id, limit=query.limit + 1, only=only)
    return JobPage.cut([present_job(job, services.links) for job in found], query.limit)


@bp.get("/<job_id>")
@describe({200: ResponseSpec("The job.", Job, headers=("Retry-After",))}, codes=JOB_CODES)
def show_job(job_id: str) -> Result:
    """Show one of the caller's jobs: attempts, queue position, progress, result.

    Admin keys see any job; the audit has an entry of it. So with its timeline, events and video.
    """
    services = get_services()
    with services.store.autocommit() as conn:
        job = owned_job.visible_job(conn, job_id, "jobs.read")
    shown = job_view.view_job(services, job)
    return shown, 200, job_view.poll_hint(shown)


@bp.get("/<job_id>/timeline")
@describe({200: ResponseSpec("The timeline.", Timeline)}, codes=JOB_CODES)
def show_timeline(job_id: str) -> Result:
    """Show everything that happened to a job, in order, and how long each state lasted."""
    with get_services().store.autocommit() as conn:
        job = owned_job.visible_job(conn, job_id, "jobs.read")
    return timeline_of(job, operator=auth.is_operator())


@bp.post("/<job_id>/cancel")
@describe(
    {
        200: ResponseSpec("The job is canceled.", Job, leads_to=("stream_events",)),
        202: ResponseSpec("The worker was asked to stop.", Job),
    },
    body=EmptyBody,
    may_be_empty=True,
    codes=(*JOB_CODES, "job_already_ended"),
)
def cancel_job(job_id: str) -> Result:
    """Cancel a job: at once while it waits, within one denoising step while it renders.

    Admin keys may cancel any job; the audit has an entry of it.
    """
    read_body(EmptyBody)
    services = get_services()
    before, job = owned_job.cancel(services, job_id)
    state = JobState(job.state)
    if JobState(before.state).terminal or (state.terminal and state is not JobState.CANCELED):
        raise BadRequest("job_already_ended", f"The job has ended: {state}.", status=409)
    return present_job(job, services.links), 200 if state.terminal else 202


@bp.delete("/<job_id>")
@describe(
    {
        202: ResponseSpec("The worker must stop first; then the job is removed.", Job),
        204: ResponseSpec("The job is removed."),
    },
    codes=JOB_CODES,
)
def delete_job(job_id: str) -> Result:
    """Remove a job's picture, clip and texts; from then on it responds with 410.

    A job that is rendering is canceled first.
    """
    services = get_services()
    job, gone = owned_job.remove(services, job_id)
    return (None, 204) if gone else (present_job(job, services.links), 202)


@bp.get("/<job_id>/video")
@describe(
    {302: ResponseSpec("The clip's URL.", headers=("Location",))},
    codes=(*JOB_CODES, "job_not_finished", "job_has_no_video"),
)
def open_video(job_id: str) -> Result:
    """Redirect to a freshly signed URL of the clip."""
    url = owned_job.clip_url(
        get_services(), lambda conn: owned_job.visible_job(conn, job_id, "jobs.read")
    )
    return redirect(url, 302)
