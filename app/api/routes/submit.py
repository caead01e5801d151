"""Submit a job: what is asked for, its picture, its place in the queue, and then its row."""

import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from flask import Blueprint, g, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Row

from app.api.models import order_schema
from app.api.models.answers import JobOrEstimate
from app.api.models.order_schema import JsonOrder, SubmitQuery, wait_s, with_cancel_after
from app.api.models.schemas import Job, dump_job, parse_strings
from app.api.openapi.examples import PICTURE
from app.api.openapi.operation import SUBMIT_CODES, Answer, describe
from app.api.openapi.shared import SUBMIT_HEADERS
from app.api.process.services import Services, services
from app.api.request import auth, job_view, rate_limit
from app.api.request.gone import refuse_gone
from app.api.request.submission import Plan, Submission, idempotency_key, make_plan, read_submission
from app.domain.errors import BadRequest, StorageUnavailable
from app.domain.job.state import uuid7
from app.domain.routing.candidates import Order
from app.pictures.normaliser import Picture
from app.store.job import fair, jobs, slots
from app.store.job.jobs import NewJob
from stillmotion.states import Policy

log = structlog.get_logger(__name__)

MAX_WAIT_S = 60
WAIT_STEP_S = 1.0

bp = Blueprint("submit", __name__, url_prefix="/v1/jobs")
bp.before_request(auth.require_jobs)


class _LostRace(Exception):
    """Another request with the same idempotency key was first."""


@bp.post("")
@describe(
    {
        200: Answer(
            "The job has ended within the preferred wait; or, with `dry_run`, the estimate.",
            JobOrEstimate,
            headers=(*SUBMIT_HEADERS, "Location", "Idempotency-Replayed", "Preference-Applied"),
        ),
        202: Answer(
            "The job is queued.",
            Job,
            headers=(
                *SUBMIT_HEADERS,
                "Location",
                "Retry-After",
                "Idempotency-Replayed",
                "Preference-Applied",
            ),
            leads_to=("show_job", "show_timeline", "cancel_job", "delete_job", "open_video"),
        ),
    },
    query=SubmitQuery,
    headers=("Idempotency-Key", "Prefer", "Cancel-After"),
    body=JsonOrder,
    form=order_schema.Order,
    picture="image",
    codes=(*SUBMIT_CODES, "upload_not_found", "object_missing", "invalid_cancel_after"),
    examples={
        "url": {"image": "https://example.com/photo.jpg", "prompt": "gentle waves"},
        "data": {"image": PICTURE, "prompt": "slow zoom in", "loop": True},
    },
)
def submit_job() -> ResponseReturnValue:
    """Submit a job: a picture, and what should become of it."""
    parts = services()
    rate_limit.spend(parts)
    dry_run = parse_strings(SubmitQuery, request.args.to_dict()).dry_run
    key = idempotency_key(request)
    submission = read_submission(request, parts.settings)
    order = with_cancel_after(submission.order, request.headers.get("Cancel-After"))
    submission = replace(submission, order=order)
    if dry_run:
        return _estimate(parts, submission)
    row, replayed = accept(parts, submission, key)
    return _accepted(parts, row, {"Idempotency-Replayed": "true"} if replayed else {})


def accept(parts: Services, submission: Submission, key: str | None) -> tuple[Row[Any], bool]:
    """Queue a job, or find the one that this idempotency key has made: its row, whether it was.

    Raises BadRequest for what is wrong with it, Overloaded.
    """
    idempotency = None if key is None else (key, submission.fingerprint)
    if idempotency is not None and (known := _replay(parts, *idempotency)) is not None:
        return known, True
    plan = make_plan(submission.order, parts.settings, parts.allow)
    job_id = _new_id()
    # Before the picture is worked on: refusing is what keeps an overloaded service cheap.
    delay_s = _admitted(parts, plan, job_id)
    picture = _picture(parts, submission, plan)
    job = _queue(parts, plan, job_id, delay_s)
    # The object before the row: an orphan is swept, a hole would fail the job.
    parts.objects.put(job.input_key, picture.data, picture.content_type)
    try:
        row = _write(parts, job, idempotency)
    except _LostRace:
        known = _replay(parts, *idempotency)
        if known is None:
            raise RuntimeError("the winner of an idempotency race is gone") from None
        return known, True
    parts.wake()
    return row, False


def _new_id() -> UUID:
    return uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))


def _admitted(parts: Services, plan: Plan, job_id: UUID, *, dry_run: bool = False) -> float:
    """Seconds to hold the job back, mostly 0. Raises Overloaded."""
    order = plan.order
    asked = Order(job_id, plan.region, order.policy, order.allowed_regions)
    return parts.admission.check(asked, order.priority, order.max_queue_seconds, dry_run=dry_run)


def _picture(parts: Services, submission: Submission, plan: Plan) -> Picture:
    """The normalised picture, looked at by the content check if there is one."""
    data = submission.load(parts.settings, parts.allow, parts.objects, g.api_key.id)
    # To the model's largest size, not this job's: most pictures need no scaling then, which is
    # two thirds of the work, and the worker scales anyway.
    try:
        picture = parts.normaliser.normalise(data, max_side=plan.profile.max_size)
    except BadRequest as error:
        error.pointer = submission.pointer
        raise
    if parts.safety is not None:
        parts.safety.refuse_order(plan.order.prompt, picture.data, submission.pointer)
    return picture


def _queue(parts: Services, plan: Plan, job_id: UUID, delay_s: float) -> NewJob:
    """The job with its place in the order of its queue, and when it should be done."""
    now = datetime.now(UTC)
    job = plan.new_job(job_id, g.api_key.id, secrets.randbits(63), now)
    with parts.store.autocommit() as conn:
        stamp = fair.stamp(
            conn,
            job.owner_id,
            profile=job.profile,
            region=job.home_region,
            priority=job.priority,
            cost=job.cost,
        )
    forecast = parts.forecaster.queued(
        job.profile, job.home_region, stamp.ahead, movable=job.policy != Policy.STRICT
    )
    done_in_s = job_view.done_in_s(forecast)
    return replace(
        job,
        vstart=stamp.vstart,
        not_before=now + timedelta(seconds=delay_s) if delay_s > 0.0 else None,
        predicted_s=None if done_in_s is None else delay_s + done_in_s,
    )


def _estimate(parts: Services, submission: Submission) -> ResponseReturnValue:
    """What a submit would answer to, with nothing stored."""
    plan = make_plan(submission.order, parts.settings, parts.allow)
    _admitted(parts, plan, _new_id(), dry_run=True)
    _picture(parts, submission, plan)
    order = plan.order
    with parts.store.autocommit() as conn:
        ahead = fair.peek(
            conn,
            g.api_key.id,
            profile=plan.profile.name,
            region=plan.region,
            priority=order.priority,
        )
    movable = order.policy is not Policy.STRICT
    forecast = parts.forecaster.queued(plan.profile.name, plan.region, ahead, movable=movable)
    return {
        "object": "estimate",
        "model": plan.profile.name,
        "region": {
            "home": plan.region,
            "policy": order.policy.value,
            "allowed": order.allowed_regions,
            "predicted": _predicted_region(parts, plan),
        },
        "queue": {
            "position": ahead,  # null: more than are counted
            "wait_seconds": None if forecast is None else round(forecast.begins_s, 3),
        },
        "eta_seconds": None if forecast is None else round(forecast.done_s, 3),
        "cost_units": round(plan.cost, 4),
    }


def _predicted_region(parts: Services, plan: Plan) -> str:
    """The nearest region with an idle worker that the job may go to; home if there is none."""
    view = parts.forecaster.view(plan.profile.name)
    order = plan.order
    for region in parts.topology.by_round_trip(plan.region):
        if order.policy is Policy.STRICT and region != plan.region:
            break
        if order.allowed_regions is not None and region not in order.allowed_regions:
            continue
        if view.idle.get(region, 0):
            return region
    return plan.region


def _write(parts: Services, job: NewJob, idempotency: tuple[str, bytes] | None) -> Row[Any]:
    """Insert the job and read it as it was written. Raises _LostRace."""
    sent = False
    limit = g.api_key.max_concurrency
    limit = parts.settings.key_concurrency or None if limit is None else limit
    try:
        with parts.store.begin() as tx:
            if limit is not None:
                job = replace(job, slot=slots.take(tx, job.owner_id, limit))
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


def _replay(parts: Services, key: str, fingerprint: bytes) -> Row[Any] | None:
    """The job that a repeated request has made, or None for a new key. Raises BadRequest."""
    with parts.store.autocommit() as conn:
        found = jobs.find_by_key(conn, g.api_key.id, key)
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            raise BadRequest(
                "idempotency_key_reused",
                "This Idempotency-Key was used with another request.",
                status=422,
            )
        row = jobs.get(conn, found.job_id, owner_id=g.api_key.id)
    refuse_gone(row)
    return row


def _accepted(parts: Services, row: Row[Any], headers: dict[str, str]) -> ResponseReturnValue:
    """The job, and how to ask for it again; waits first if the client prefers that."""
    told = {"Location": url_for("jobs.show_job", job_id=str(row.id))} | headers
    seconds = wait_s(request.headers.get("Prefer"), MAX_WAIT_S)
    if seconds is not None and (waited := _wait(parts, row, seconds)) is not None:
        told["Preference-Applied"] = f"wait={seconds}"
        shown = job_view.show(parts, waited)
        return shown, 200 if shown["terminal"] else 202, told | job_view.poll_hint(shown)
    # No position here: a replay is to show the same, and the next poll shows it anyway.
    shown = dump_job(row, parts.links)
    return shown, 202, told | job_view.poll_hint(shown, row.predicted_s)


def _wait(parts: Services, row: Row[Any], seconds: int) -> Row[Any] | None:
    """The job's row when it has ended, or `seconds` are over. None: there is no room to wait."""
    with parts.gate.aside() as waits:
        if not waits:
            return None
        followed = parts.hub.follow(row)
        try:
            until = time.monotonic() + seconds
            version = followed.version
            while not followed.state.terminal and parts.hub.alive():
                left_s = until - time.monotonic()
                if left_s <= 0:
                    break
                version = followed.wait(version, min(left_s, WAIT_STEP_S))
        finally:
            parts.hub.leave(followed)
    with parts.store.autocommit() as conn:
        return jobs.get_whole(conn, row.id, owner_id=row.owner_id)
