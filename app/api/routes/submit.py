"""Submit a job."""

import time
from contextlib import closing

from flask import Blueprint, request, url_for

from app.api.models.job_request import JobOrEstimate, JobRequest, JsonJobRequest, SubmitQuery
from app.api.models.query_string import parse_query
from app.api.openapi.examples import PICTURE
from app.api.openapi.operation import SUBMIT_CODES, ResponseSpec, Result, describe
from app.api.openapi.shared import RATE_HEADERS
from app.api.process.services import Services, get_services
from app.api.request import auth, job_view, rate_limit
from app.api.request.acceptance import Accepted, accept, estimate
from app.api.request.submission import preferred_wait_s, read_submission
from app.domain.errors import DatabaseUnavailable
from app.public.job import Job
from app.public.present import present_job
from app.store.job import jobs
from app.store.job.records import JobRecord, WholeJob

MAX_WAIT_S = 60
WAIT_STEP_S = 1.0

bp = Blueprint("submit", __name__, url_prefix="/v1/jobs")
bp.before_request(auth.require_jobs)


@bp.post("")
@describe(
    {
        200: ResponseSpec(
            "The job ended within the preferred wait; or, with `dry_run`, the estimate.",
            JobOrEstimate,
            headers=(*RATE_HEADERS, "Location", "Idempotency-Replayed", "Preference-Applied"),
        ),
        202: ResponseSpec(
            "The job is queued.",
            Job,
            headers=(
                *RATE_HEADERS,
                "Location",
                "Retry-After",
                "Idempotency-Replayed",
                "Preference-Applied",
                "Preference-Refused",
                "Stillmotion-Notice",
            ),
            leads_to=("show_job", "show_timeline", "cancel_job", "delete_job", "open_video"),
        ),
    },
    query=SubmitQuery,
    headers=("Idempotency-Key", "Prefer", "Cancel-After"),
    body=JsonJobRequest,
    form=JobRequest,
    picture="image",
    codes=(*SUBMIT_CODES, "upload_not_found", "object_missing", "invalid_cancel_after"),
    examples={
        "url": {"image": "https://example.com/photo.jpg", "prompt": "gentle waves"},
        "data": {"image": PICTURE, "prompt": "slow zoom in", "loop": True},
    },
)
def submit_job() -> Result:
    """Submit a job: a picture, and what should become of it."""
    services = get_services()
    rate_limit.spend_submit(services)
    query = parse_query(SubmitQuery, request.query_string)
    submission = read_submission(request, services.settings)
    with closing(submission.picture):
        if query.dry_run:
            return estimate(services, submission)
        accepted = accept(services, submission)
    return _respond(services, accepted)


def _respond(services: Services, accepted: Accepted) -> Result:
    """The job and how to poll it. Waits first if the client prefers that."""
    job = accepted.job
    headers = {"Location": url_for("jobs.show_job", job_id=str(job.id))}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    seconds = preferred_wait_s(request.headers.get("Prefer"), MAX_WAIT_S)
    if seconds is not None:
        waited = _wait(services, job, seconds)
        if waited is not None:
            headers["Preference-Applied"] = f"wait={seconds}"
            shown = job_view.view_job(services, waited)
            return shown, 200 if shown.terminal else 202, headers | job_view.poll_hint(shown)
        headers["Preference-Refused"] = "wait"
    if not accepted.replayed and _nobody_serves(services, job):
        what = "all that this job asks of " if job.needs else ""
        headers["Stillmotion-Notice"] = (
            f"no worker serves {what}{job.profile} now; the job waits for one"
        )
    # No queue position: a replay must show the same, and the next poll shows it anyway.
    shown = present_job(job, services.links)
    return shown, 202, headers | job_view.poll_hint(shown, job.predicted_s)


def _nobody_serves(services: Services, job: JobRecord) -> bool:
    regions = job_view.open_regions(services, job)
    try:
        return services.forecaster.workers(job.profile, regions, job.needs) == 0
    except DatabaseUnavailable:  # the job is accepted all the same
        return False


def _wait(services: Services, job: JobRecord, seconds: int) -> WholeJob | None:
    """The job once it has ended or `seconds` are over. None: there was no room to wait.

    Raises BadRequest (401) once the caller's key is revoked.
    """
    with services.gate.aside(services.gate.waiting, job.owner_id) as may_wait:
        if not may_wait:
            return None
        followed = services.hub.follow(job)
        try:
            until = time.monotonic() + seconds
            version = followed.version
            while not followed.state.terminal and services.hub.alive():
                left_s = until - time.monotonic()
                if left_s <= 0:
                    break
                version = followed.wait(version, min(left_s, WAIT_STEP_S))
                auth.require_still_live()
        finally:
            services.hub.leave(followed)
    with services.store.autocommit() as conn:
        return jobs.get_whole(conn, job.id, owner_id=job.owner_id)
