"""Submit, show, list and cancel jobs."""

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from flask import Blueprint, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, Row

from app.api import auth, orders
from app.api.schemas import PageQuery, dump_job, parse_strings
from app.api.services import Services, services
from app.domain.candidates import Order
from app.domain.errors import BadRequest, StorageUnavailable
from app.domain.job import JobState, Policy, uuid7
from app.store import jobs
from app.store.jobs import NewJob

log = structlog.get_logger(__name__)

POLL_AFTER_S = "1"

bp = Blueprint("jobs", __name__, url_prefix="/v1/jobs")
bp.before_request(auth.require_jobs)


class _LostRace(Exception):
    """Another request with the same idempotency key was first."""


@bp.post("")
def submit_job() -> ResponseReturnValue:
    """Accept a job. 202, not 201: nothing has been rendered yet."""
    parts = services()
    key = orders.idempotency_key(request)
    submission = orders.read_submission(request, parts.settings)
    idempotency = None if key is None else (key, submission.fingerprint)
    if idempotency is not None and (known := _replay(parts, *idempotency)) is not None:
        return known
    plan = orders.plan(submission.order, parts.settings, parts.allow)
    job = plan.new_job(
        uuid7(time.time_ns() // 1_000_000, secrets.randbits(74)),
        g.api_key.id,
        secrets.randbits(63),
        datetime.now(UTC),
    )
    # Before the picture is worked on: refusing is what keeps an overloaded service cheap.
    job = _admitted(parts, job, submission.order.max_queue_seconds)
    # To the model's largest size, not this job's: most pictures need no scaling then, which is
    # two thirds of the work, and the worker scales anyway.
    picture = parts.normaliser.normalise(
        submission.load(parts.settings, parts.allow), max_side=plan.profile.max_size
    )
    # The object before the row: an orphan is swept, a hole would fail the job.
    parts.objects.put(job.input_key, picture.data, picture.content_type)
    try:
        row = _write(parts, job, idempotency)
    except _LostRace:
        known = _replay(parts, *idempotency)
        if known is None:
            raise RuntimeError("the winner of an idempotency race is gone") from None
        return known
    parts.wake()
    return _accepted(parts, row)


def _admitted(parts: Services, job: NewJob, max_queue_s: float) -> NewJob:
    """The job, perhaps held back a moment. Raises Overloaded."""
    order = Order(job.id, job.home_region, Policy(job.policy), job.allowed_regions)
    delay_s = parts.admission.check(order, job.priority, max_queue_s)
    if delay_s <= 0.0:
        return job
    return replace(job, not_before=datetime.now(UTC) + timedelta(seconds=delay_s))


def _write(parts: Services, job: NewJob, idempotency: tuple[str, bytes] | None) -> Row[Any]:
    """Insert the job and read it as it was written. Raises _LostRace."""
    sent = False
    try:
        with parts.store.begin() as tx:
            row = jobs.add(tx, job, idempotency)
            if row is None:
                raise _LostRace
            sent = True
    except Exception:
        # A commit whose answer was lost may have held, and then the picture is needed: the
        # sweeper, which can see the row, decides.
        if not sent:
            _discard(parts, job.input_key)
        raise
    return row


def _discard(parts: Services, key: str) -> None:
    try:
        parts.objects.delete(key)
    except StorageUnavailable as error:
        log.warning("a picture without a job is left to the sweeper", key=key, error=error.detail)


def _replay(parts: Services, key: str, fingerprint: bytes) -> ResponseReturnValue | None:
    """The answer to a repeated request, or None for a new key. Raises BadRequest."""
    with parts.store.once() as tx:
        found = jobs.find_by_key(tx, g.api_key.id, key)
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            raise BadRequest(
                "idempotency_key_reused",
                "This Idempotency-Key was used with another request.",
                status=422,
            )
        row = jobs.get(tx, found.job_id, owner_id=g.api_key.id)
    return _accepted(parts, row, {"Idempotency-Replayed": "true"})


def _accepted(
    parts: Services, row: Row[Any], headers: dict[str, str] | None = None
) -> ResponseReturnValue:
    where = url_for("jobs.show_job", job_id=str(row.id))
    pointers = {"Location": where, "Retry-After": POLL_AFTER_S}
    return dump_job(row, parts.links), 202, pointers | (headers or {})


@bp.get("")
def list_jobs() -> ResponseReturnValue:
    """List the caller's jobs, newest first; `next` is the `after` of the following page."""
    parts = services()
    query = parse_strings(PageQuery, request.args.to_dict())
    with parts.store.once() as tx:
        rows = jobs.page(
            tx,
            g.api_key.id,
            limit=query.limit + 1,  # one more tells whether there is a next page
            after=query.after,
            state=None if query.state is None else query.state.value,
        )
    shown, more = rows[: query.limit], len(rows) > query.limit
    return {
        "object": "list",
        "data": [dump_job(row, parts.links) for row in shown],
        "has_more": more,
        "next": str(shown[-1].id) if more else None,
    }


@bp.get("/<job_id>")
def show_job(job_id: str) -> ResponseReturnValue:
    """Show one of the caller's jobs, with its attempts, its place in the queue and its step."""
    parts = services()
    with parts.store.once() as tx:
        row = _own(tx, job_id, jobs.get_whole)
        position = jobs.position(tx, row) if row.state == JobState.QUEUED else None
    step = parts.step(row) if row.state == JobState.PROCESSING else None
    shown = dump_job(row, parts.links, step=step, position=position, attempts=row.attempts)
    return shown, 200, {} if shown["terminal"] else {"Retry-After": POLL_AFTER_S}


@bp.post("/<job_id>/cancel")
def cancel_job(job_id: str) -> ResponseReturnValue:
    """Cancel a job: 200 if it has ended by that, 202 if its worker was asked to stop."""
    parts = services()
    with parts.store.begin() as tx:
        before = _own(tx, job_id)
        row = jobs.cancel(tx, before.id, owner_id=g.api_key.id)
    state = JobState(row.state)
    if JobState(before.state).terminal or (state.terminal and state is not JobState.CANCELED):
        raise BadRequest("job_already_ended", f"The job has ended: {state}.", status=409)
    if state is JobState.CANCELED:
        parts.webhook_due()
        return dump_job(row, parts.links)
    parts.ask_stop(row.region, row.id, row.fence)
    return dump_job(row, parts.links), 202


@bp.get("/<job_id>/video")
def show_video(job_id: str) -> ResponseReturnValue:
    """Redirect to a fresh signed URL of the clip."""
    parts = services()
    with parts.store.once() as tx:
        row = _own(tx, job_id)
    output = parts.links.output(row)
    if output is None:
        ended = JobState(row.state).terminal
        raise BadRequest(
            "job_has_no_video" if ended else "job_not_finished",
            f"The job is {row.state}; only a succeeded one has a video.",
            status=409,
        )
    return redirect(output.url, 302)


def _own(tx: Connection, job_id: str, get: Callable[..., Row[Any] | None] = jobs.get) -> Row[Any]:
    """One of the caller's jobs. Another owner's, and what cannot be an id, is as unknown as none.

    Raises BadRequest: job_not_found.
    """
    try:
        row = get(tx, UUID(job_id), owner_id=g.api_key.id)
    except ValueError:
        row = None
    if row is None:
        raise BadRequest("job_not_found", "There is no job of this id.", status=404)
    return row
