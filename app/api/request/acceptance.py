"""From a submission to a queued job, or to an estimate of one.

One pass: plan, admission, picture, queue place, object, row. Each step is dearer than the last, so
that refusing is what stays cheap for an overloaded service.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import structlog

from app import tracing
from app.api.models.job_request import Estimate, EstimatedQueue, EstimatedRegion
from app.api.process.services import Services
from app.api.request import job_view
from app.api.request.owned_job import note_job, refuse_gone
from app.api.request.plan import Plan, make_plan
from app.api.request.submission import Submission
from app.domain.errors import BadRequest, StorageUnavailable
from app.domain.job import levels
from app.domain.job.clip_size import ClipSize, clip_size
from app.domain.job.served_sizes import nearest_size
from app.domain.job.state import uuid7
from app.domain.routing.candidates import RoutingRequest
from app.pictures.normaliser import Picture
from app.public.present import present_understood
from app.store import keys
from app.store.job import fair, jobs, slot_queue, slots
from app.store.job.jobs import NewJob
from app.store.job.records import JobRecord
from app.store.keys import ApiKey
from stillmotion.states import Policy

log = structlog.get_logger(__name__)


class Accepted(NamedTuple):
    """`replayed`: an earlier request with the same idempotency key created the job."""

    job: JobRecord
    replayed: bool


class _LostRace(Exception):
    """A concurrent request with the same idempotency key was first."""


def accept(services: Services, submission: Submission) -> Accepted:
    """Queue a job, or find the one that an earlier request with this idempotency key created.

    Raises BadRequest for a bad request, Overloaded.
    """
    if (known := _find_earlier(services, submission)) is not None:
        accepted = Accepted(known, replayed=True)
    else:
        with services.overload.submit(submission.caller.id):
            accepted = _accept_new(services, submission)
    note_job(accepted.job)
    return accepted


def _accept_new(services: Services, submission: Submission) -> Accepted:
    plan = make_plan(submission.job_request, services.settings, services.allow, submission.caller)
    job_id = _new_id(services)
    delay_s = _admit(services, plan, job_id)
    with tracing.part("prepare picture"):
        picture = _prepare_picture(services, submission, plan)
    new = _place_in_queue(services, submission.caller, plan, job_id, delay_s)
    if (clip := _sides(plan, picture)) is not None:
        new = replace(new, width=clip.width, height=clip.height)
    # The object before the row: the sweeper removes an orphan, but a hole would fail the job.
    with tracing.part("store picture"):
        services.objects.put(new.input_key, picture.data, picture.content_type)
    try:
        with tracing.part("write job"):
            job = _write(services, submission, new)
    except _LostRace:
        winner = _find_earlier(services, submission)
        if winner is None:
            raise RuntimeError("the winner of an idempotency race is gone") from None
        return Accepted(winner, replayed=True)
    services.wake(plan.profile.name)
    return Accepted(job, replayed=False)


def estimate(services: Services, submission: Submission) -> Estimate:
    """What `accept` would lead to. Stores nothing. Raises as `accept` does."""
    plan = make_plan(submission.job_request, services.settings, services.allow, submission.caller)
    _admit(services, plan, _new_id(services), dry_run=True)
    with services.overload.submit(submission.caller.id):
        _prepare_picture(services, submission, plan)
    asked, profile, caller = plan.job_request, plan.profile.name, submission.caller
    needs = levels.needed(vars(asked))
    with services.store.autocommit() as conn:
        ahead = fair.peek(
            conn,
            caller.id,
            profile=profile,
            region=plan.region,
            priority=plan.priority,
        )
        limited = slot_queue.queue_for_next(
            conn, caller.id, _concurrency(services, caller), priority=plan.priority
        )
    forecast = services.forecaster.queued(
        profile,
        plan.region,
        ahead,
        cost=plan.cost,
        movable=plan.movable,
        limited=limited,
        needs=needs,
    )
    position = None
    if ahead is not None:
        position = ahead.jobs + (0 if limited is None else limited.ahead.jobs)
    return Estimate(
        object="estimate",
        model=profile,
        prompt_understood=present_understood(profile, asked.prompt, services.settings.profiles),
        region=EstimatedRegion(
            home=plan.region,
            policy=asked.policy,
            allowed=asked.allowed_regions,
            predicted=_predicted_region(services, plan),
        ),
        queue=EstimatedQueue(
            position=position,
            wait_seconds=None if forecast is None else round(forecast.begins_s, 3),
            workers=services.forecaster.workers(profile, _open_regions(services, plan), needs),
        ),
        eta_seconds=None if forecast is None else round(forecast.done_s, 3),
        cost_units=round(plan.cost, 4),
    )


def _find_earlier(services: Services, submission: Submission) -> JobRecord | None:
    """The job of an earlier request with the same key. Raises BadRequest if the requests differ."""
    key, owner_id = submission.idempotency_key, submission.caller.id
    if key is None:
        return None
    with services.store.autocommit() as conn:
        known = jobs.find_by_key(conn, owner_id, key)
        if known is None:
            return None
        if known.fingerprint != submission.fingerprint:
            raise BadRequest(
                "idempotency_key_reused",
                "This Idempotency-Key was used with another request.",
                status=422,
            )
        job = jobs.get(conn, known.job_id, owner_id=owner_id)
    if job is not None:
        refuse_gone(job)
    return job


def _new_id(services: Services) -> UUID:
    """Ids grow with the database's time: lists and demand are read by it."""
    return uuid7(int(services.clock() * 1000), secrets.randbits(74))


def _admit(services: Services, plan: Plan, job_id: UUID, *, dry_run: bool = False) -> float:
    """Seconds to hold the job back, usually 0. Raises Overloaded."""
    asked = plan.job_request
    routing = RoutingRequest(job_id, plan.region, asked.policy, asked.allowed_regions)
    return services.admission.check(
        routing, plan.priority, asked.max_queue_seconds, dry_run=dry_run
    )


def _prepare_picture(services: Services, submission: Submission, plan: Plan) -> Picture:
    """The normalised picture, checked by the content check if there is one."""
    picture = _normalise(services, submission, plan)
    if services.safety is not None:
        services.safety.refuse_order(
            plan.job_request.prompt, picture.data, submission.picture.pointer
        )
    return picture


def _normalise(services: Services, submission: Submission, plan: Plan) -> Picture:
    source = submission.picture
    with source.load(services, submission.caller.id) as data:
        # To what the model may need, not this job: most pictures then need no scaling, which is
        # two thirds of the work, and the worker scales anyway.
        try:
            # Aside: decoding is another process's work, and may wait for others' pictures.
            with services.gate.aside(services.gate.waiting, submission.caller.id):
                return services.normaliser.normalise(
                    data,
                    max_side=plan.profile.picture_side,
                    key=submission.caller.id,
                    background=plan.job_request.background_rgb,
                )
        except BadRequest as error:
            code, detail, status = error.code, error.detail, error.status
        del data
    # Raised anew: the traceback of the first one keeps the picture in memory, uncounted.
    raise BadRequest(code, detail, status=status, pointer=source.pointer)


def _sides(plan: Plan, picture: Picture) -> ClipSize | None:
    """The size of the clip. None if only the engine knows it."""
    profile = plan.profile
    if profile.sizes:
        return nearest_size(picture.width, picture.height, plan.size, profile.sizes)
    return clip_size(picture.width, picture.height, plan.size) if profile.network else None


def _place_in_queue(
    services: Services, caller: ApiKey, plan: Plan, job_id: UUID, delay_s: float
) -> NewJob:
    """The job with its place in the queue and its predicted end."""
    new = plan.new_job(job_id, caller.id, secrets.randbits(63))
    with services.store.autocommit() as conn:
        stamp = fair.stamp(
            conn,
            new.owner_id,
            profile=new.profile,
            region=new.home_region,
            priority=new.priority,
            cost=new.cost,
        )
        # Only for the prediction: whether it gets a slot is decided in its transaction.
        limited = slot_queue.queue_for_next(
            conn, caller.id, _concurrency(services, caller), priority=new.priority
        )
    forecast = services.forecaster.queued(
        new.profile,
        new.home_region,
        stamp.ahead,
        cost=new.cost,
        movable=plan.movable,
        limited=limited,
        needs=new.level,
    )
    done_in_s = job_view.done_in_s(forecast)
    return replace(
        new,
        traceparent=tracing.current(),
        vstart=stamp.vstart,
        hold_s=delay_s,
        predicted_s=None if done_in_s is None else delay_s + done_in_s,
    )


def _write(services: Services, submission: Submission, new: NewJob) -> JobRecord:
    """Insert the job and return its record. Raises _LostRace."""
    idempotency = None
    if submission.idempotency_key is not None:
        idempotency = (submission.idempotency_key, submission.fingerprint)
    limit = _concurrency(services, submission.caller)
    inserted = False
    try:
        with services.store.begin() as tx:
            if limit is not None:
                new = replace(new, slot=slots.take(tx, new.owner_id, limit))
            job = jobs.add(tx, new, idempotency)
            if job is None:
                raise _LostRace
            inserted = True
    except Exception:
        # A commit whose reply was lost may still have succeeded, and then the job needs its
        # picture. The sweeper can see the row and decides.
        if not inserted:
            _discard(services, new.input_key)
        raise
    return job


def _concurrency(services: Services, caller: ApiKey) -> int | None:
    """How many live jobs the caller may have at a time. None: any number."""
    return keys.limit(caller.max_concurrency, services.settings.key_concurrency)


def _discard(services: Services, key: str) -> None:
    try:
        services.objects.delete(key)
    except StorageUnavailable as error:
        log.warning("picture_orphaned", key=key, error=error.detail)  # the sweeper removes it


def _open_regions(services: Services, plan: Plan) -> Sequence[str]:
    if not plan.movable:
        return [plan.region]
    allowed = plan.job_request.allowed_regions
    return services.topology.names if allowed is None else allowed


def _predicted_region(services: Services, plan: Plan) -> str:
    """The nearest allowed region with an idle worker; home if there is none."""
    view = services.forecaster.view(plan.profile.name, levels.needed(vars(plan.job_request)))
    asked = plan.job_request
    for region in services.topology.by_round_trip(plan.region):
        if asked.policy is Policy.STRICT and region != plan.region:
            break
        if asked.allowed_regions is not None and region not in asked.allowed_regions:
            continue
        if view.idle.get(region, 0):
            return region
    return plan.region
