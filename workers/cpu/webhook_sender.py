"""One try of one webhook after another, from Begin to Record. Never heard of Celery."""

import random
from dataclasses import dataclass
from time import monotonic, time
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Row
from structlog.contextvars import bound_contextvars

from app import outbound
from app.domain import webhooks
from app.domain.webhooks import Outcome, Verdict
from app.objects import Objects
from app.outbound import Allow
from app.public.links import Links
from app.public.present import present_job
from app.store.job import jobs
from app.store.session import Store
from app.store.webhooks import deliveries, endpoints
from app.store.webhooks.deliveries import Due
from app.store.webhooks.endpoints import Disabled
from stillmotion.backoff import retry_after_s
from stillmotion.errors import StillmotionError

log = structlog.get_logger(__name__)

FOLLOW_S = 10.0  # for one receiver, before other messages get their turn
JOB_GONE = "job_deleted"  # between the begin of a try and its body


@dataclass(frozen=True)
class Services:
    """What a CPU worker process holds for all its tasks."""

    store: Store
    objects: Objects
    links: Links
    allow: Allow  # exceptions to the SSRF guard
    secret_key: str  # webhook secrets are derived from it


@dataclass(frozen=True)
class Answer:
    """What one try brought: a status, or an error code and no status."""

    status: int | None = None
    retry_after_s: float | None = None
    error: str | None = None


def deliver(services: Services, due: Due) -> None:
    """Make the try that `due` stands for; after a success, more of what the same receiver is owed.

    A receiver has few tries under way at a time, so whoever ends one starts the next without
    waiting for a dispatcher's look. After FOLLOW_S the dispatcher goes on.
    Raises DatabaseUnavailable.
    """
    until = monotonic() + FOLLOW_S
    following: Due | None = due
    while following is not None:
        with bound_contextvars(delivery_id=str(following.delivery_id), tries=following.tries):
            url = _try(services, following)
        if url is None or monotonic() > until:
            return
        with services.store.autocommit() as conn:
            following = deliveries.lease_same(conn, url)


def _try(services: Services, due: Due) -> str | None:
    """Make one try; returns the URL if it delivered.

    A worker that dies in here, or whose record is lost, leaves a lease that runs out: the receiver
    may get a message twice, always under the same `webhook-id`. Raises DatabaseUnavailable.
    """
    with services.store.autocommit() as conn:
        delivery = deliveries.begin(conn, due)
    if delivery is None:
        log.info("stale message dropped")
        return None
    tries = delivery.tries - delivery.tries_before
    if tries > len(webhooks.SCHEDULE_S):
        # Every try was begun and the last was never recorded: it takes its worker down with it.
        answer, verdict = Answer(error="never_recorded"), Verdict(Outcome.GIVEN_UP)
    else:
        answer = _post(services, delivery)
        verdict = webhooks.decide(answer.status, answer.retry_after_s, tries, random.random())
    # Whoever asked for a test waits for it, and a deleted job does not come back.
    if verdict.outcome is Outcome.RETRY and (delivery.job_id is None or answer.error == JOB_GONE):
        verdict = Verdict(Outcome.GIVEN_UP)
    recorded = _record(services, delivery, answer, verdict)
    log.info(
        "webhook tried",
        # The host alone: paths and queries of webhook addresses often hold secrets.
        host=urlsplit(delivery.url).hostname,
        event_type=delivery.event,
        outcome=verdict.outcome.value,
        status=answer.status,
        error=answer.error,
        retry_in_s=round(verdict.delay_s) if verdict.outcome is Outcome.RETRY else None,
        superseded=not recorded,
    )
    return delivery.url if verdict.outcome is Outcome.DELIVERED else None


def _record(services: Services, delivery: Row[Any], answer: Answer, verdict: Verdict) -> bool:
    """Write what came of a try, and what that means for its endpoint. False: superseded."""
    gone = verdict.outcome is Outcome.GONE
    # A test tells about itself alone, and a deleted job nothing about who would have heard of it.
    told = delivery.job_id is not None and answer.error != JOB_GONE
    dead = verdict.outcome is Outcome.GIVEN_UP and told
    concerns_endpoint = delivery.endpoint_id is not None and (gone or dead)
    with services.store.begin() as tx:
        if concerns_endpoint:
            endpoints.lock(tx, delivery.endpoint_id)
        recorded = deliveries.record(
            tx, delivery.id, delivery.tries, verdict, status=answer.status, error=answer.error
        )
        if recorded and concerns_endpoint:
            if gone:
                endpoints.disable(tx, delivery.endpoint_id, Disabled.GONE)
            else:
                endpoints.disable_if_dead(tx, delivery)
    return recorded


def _post(services: Services, delivery: Row[Any]) -> Answer:
    """Build, sign and post. Whatever goes wrong is an answer, so that the schedule applies."""
    try:
        body = _body(services, delivery)
        if body is None:
            return Answer(error=JOB_GONE)
        now = time()
        response = outbound.post(
            delivery.url,
            body=body,
            headers=webhooks.headers(
                _secrets(services, delivery),
                str(delivery.id),
                int(now),
                body,
            ),
            timeout_s=webhooks.TIMEOUT_S,
            allow=services.allow,
        )
    except StillmotionError as error:
        return Answer(error=error.code)
    except Exception:
        log.exception("unexpected error")
        return Answer(error="internal_error")
    error = None if 200 <= response.status < 300 else f"http_{response.status}"
    asked = retry_after_s(response.headers.get("retry-after"), now)
    return Answer(response.status, asked, error)


def _secrets(services: Services, delivery: Row[Any]) -> list[str]:
    """The secret to sign with, and during a rotation the one before it."""
    subject = delivery.endpoint_id or delivery.owner_id
    versions = [delivery.secret_version]
    if delivery.previous_signs:
        versions.append(delivery.secret_version - 1)
    return [webhooks.secret_for(services.secret_key, subject, version) for version in versions]


def _body(services: Services, delivery: Row[Any]) -> bytes | None:
    """The job as the API shows it now, with a freshly signed link to its clip. None: it is gone."""
    if delivery.job_id is None:
        return webhooks.encode_test(delivery.created_at, delivery.endpoint_id)
    with services.store.autocommit() as conn:
        job = jobs.get_whole(conn, delivery.job_id, owner_id=delivery.owner_id)
    if job is None or job.purged_at is not None:
        return None
    shown = present_job(job, services.links, attempts=job.attempts)
    return webhooks.encode(delivery.event, job.finished_at, shown.model_dump(mode="json"))
