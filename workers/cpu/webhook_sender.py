"""Sends webhooks, one try at a time, from Begin to Record. Knows nothing of Celery."""

import random
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from structlog.contextvars import bound_contextvars

from app import outbound, tracing
from app.domain import webhooks
from app.domain.webhooks import Outcome, Verdict
from app.metrics import webhook_seconds, webhook_tries
from app.objects import Objects
from app.outbound import Allow
from app.public.links import Links
from app.public.present import present_job, without_content
from app.store.clock import ClockSince, DatabaseClock
from app.store.job import jobs
from app.store.session import Store
from app.store.webhooks import deliveries, endpoints
from app.store.webhooks.deliveries import Due
from app.store.webhooks.endpoints import Disabled
from app.store.webhooks.records import BegunTry
from stillmotion.backoff import retry_after_s
from stillmotion.errors import StillmotionError

log = structlog.get_logger(__name__)

FOLLOW_S = 10.0  # how long one receiver's messages may follow each other before others get a turn
# Errors of tries that were not made, and never will be.
JOB_DELETED = "job_deleted"
KEY_REVOKED = "key_revoked"  # whoever held the key must not get links to its clips any more
FINAL = frozenset({JOB_DELETED, KEY_REVOKED})


@dataclass(frozen=True)
class Services:
    """What a CPU worker process holds for all its tasks."""

    store: Store
    objects: Objects
    links: Links
    clock: DatabaseClock
    allow: Allow  # exceptions to the SSRF guard
    # The sources of all webhook secrets: SECRET_KEY, and the previous one while it is replaced.
    secret_keys: tuple[str, ...]
    owner_limit: int  # tries of one owner under way, for keys without a limit of their own


@dataclass(frozen=True)
class TryResult:
    """The receiver's status, or an error code without a status."""

    status: int | None = None
    retry_after_s: float | None = None
    error: str | None = None


def deliver(services: Services, due: Due) -> None:
    """Make the try `due`; after a success, go on with the owner's messages for this receiver.

    Few tries per receiver may run at a time, so each success starts the next one without waiting
    for the dispatcher's poll. After FOLLOW_S the dispatcher takes over.
    Raises DatabaseUnavailable.
    """
    until = monotonic() + FOLLOW_S
    following: Due | None = due
    while following is not None:
        with bound_contextvars(delivery_id=str(following.delivery_id), tries=following.tries):
            receiver = _try(services, following)
        if receiver is None or monotonic() > until:
            return
        with services.store.autocommit() as conn:
            following = deliveries.lease_next(conn, *receiver, per_owner=services.owner_limit)


def _try(services: Services, due: Due) -> tuple[UUID, str] | None:
    """Make one try. Returns owner and URL if the message was delivered.

    If the worker dies in here, or cannot record the result, the lease expires and the receiver may
    get the message again, under the same `webhook-id`. Raises DatabaseUnavailable.
    """
    with services.store.autocommit() as conn:
        delivery = deliveries.begin(conn, due)
    if delivery is None:
        log.info("stale_message_dropped")
        return None
    with bound_contextvars(**_about(delivery)):
        return _begun(services, delivery)


def _about(delivery: BegunTry) -> dict[str, Any]:
    if delivery.job_id is None:
        return {}
    return tracing.about(
        delivery.job_id, delivery.traceparent, fence=delivery.fence, region=delivery.job_region
    )


def _begun(services: Services, delivery: BegunTry) -> tuple[UUID, str] | None:
    tries = delivery.tries - delivery.tries_before
    if tries > len(webhooks.SCHEDULE_S):
        # Every try began, and the last was never recorded: it probably kills its worker.
        result, verdict = TryResult(error="never_recorded"), Verdict(Outcome.GIVEN_UP)
    else:
        result = _send(services, delivery)
        verdict = webhooks.decide(result.status, result.retry_after_s, tries, random.random())
    # A test has a caller who waits for it; deleted jobs and revoked keys do not come back.
    once = delivery.job_id is None or result.error in FINAL
    if verdict.outcome is Outcome.RETRY and once:
        verdict = Verdict(Outcome.GIVEN_UP)
    recorded = _record(services, delivery, result, verdict)
    webhook_tries.labels(verdict.outcome.value).inc()
    log.info(
        "webhook_tried",
        # Only the host: paths and queries of webhook URLs often contain secrets.
        host=urlsplit(delivery.url).hostname,
        event_type=delivery.event,
        outcome=verdict.outcome.value,
        status=result.status,
        error=result.error,
        retry_in_s=round(verdict.delay_s) if verdict.outcome is Outcome.RETRY else None,
        superseded=not recorded,
    )
    if verdict.outcome is not Outcome.DELIVERED:
        return None
    return delivery.owner_id, delivery.url


def _record(services: Services, delivery: BegunTry, result: TryResult, verdict: Verdict) -> bool:
    """Record a try, and disable its endpoint if it is gone or dead. False: superseded."""
    gone = verdict.outcome is Outcome.GONE
    # Neither a test nor what is not sent says anything about the endpoint's health.
    counts = delivery.job_id is not None and result.error not in FINAL
    dead = verdict.outcome is Outcome.GIVEN_UP and counts
    endpoint_id = delivery.endpoint_id if gone or dead else None
    with services.store.begin() as tx:
        if endpoint_id is not None:
            endpoints.lock(tx, endpoint_id)
        recorded = deliveries.record(
            tx, delivery.id, delivery.tries, verdict, status=result.status, error=result.error
        )
        if recorded and endpoint_id is not None:
            if gone:
                endpoints.disable(tx, endpoint_id, Disabled.GONE)
            else:
                endpoints.disable_if_dead(tx, delivery)
    return recorded


def _send(services: Services, delivery: BegunTry) -> TryResult:
    """One POST, as a span of the job's trace."""
    assert delivery.last_tried_at is not None
    about: tracing.Attributes = {"webhook.id": str(delivery.id), "webhook.try": delivery.tries}
    with tracing.span("webhook", delivery.traceparent, about, SpanKind.CLIENT) as span:
        with webhook_seconds.time():
            result = _post(
                services,
                delivery,
                ClockSince(delivery.last_tried_at),
                tracing.traceparent_of(span),
            )
        if result.status is not None:
            span.set_attribute("http.response.status_code", result.status)
        if result.error is not None:
            span.set_status(StatusCode.ERROR, result.error)
    return result


def _post(
    services: Services, delivery: BegunTry, clock: ClockSince, traceparent: str | None
) -> TryResult:
    """Build, sign and post. Every failure is a result, so that the retry schedule applies.

    Receivers refuse a signature whose time is five minutes off, so it names the database's time:
    the date of this host may be wrong.
    """
    if delivery.key_revoked:
        return TryResult(error=KEY_REVOKED)
    try:
        body = _body(services, delivery)
        if body is None:
            return TryResult(error=JOB_DELETED)
        response = outbound.post(
            delivery.url,
            body=body,
            headers=webhooks.headers(
                _secrets(services, delivery),
                str(delivery.id),
                int(clock.now().timestamp()),
                body,
            )
            | ({} if traceparent is None else {"traceparent": traceparent}),
            timeout_s=webhooks.TIMEOUT_S,
            allow=services.allow,
        )
    except StillmotionError as error:
        return TryResult(error=error.code)
    except Exception:
        log.exception("webhook_crashed")
        return TryResult(error="internal_error")
    accepted = 200 <= response.status < 300
    return TryResult(
        response.status,
        retry_after_s(response.headers.get("retry-after"), clock.now().timestamp()),
        error=None if accepted else f"http_{response.status}",
    )


def _secrets(services: Services, delivery: BegunTry) -> list[str]:
    """The secret to sign with; during a rotation, of it or of SECRET_KEY, the previous ones too."""
    subject = delivery.endpoint_id or delivery.owner_id
    versions = [delivery.secret_version]
    if delivery.previous_signs:
        versions.append(delivery.secret_version - 1)
    return [
        webhooks.secret_for(secret_key, subject, version)
        for secret_key in services.secret_keys
        for version in versions
    ]


def _body(services: Services, delivery: BegunTry) -> bytes | None:
    """The job as the API shows it now, with a fresh link to its clip. None if it was deleted.

    Past its retention, the API says 410 and the sweeper has yet to come; a job that was deleted
    while it rendered ends like that. Its end is announced without what a client wrote or got.
    """
    if delivery.job_id is None:
        assert delivery.endpoint_id is not None, "only an endpoint is tested"
        return webhooks.encode_test(delivery.created_at, delivery.endpoint_id)
    with services.store.autocommit() as conn:
        job = jobs.get_whole(conn, delivery.job_id, owner_id=delivery.owner_id)
    if job is None or job.purged_at is not None:
        return None
    assert job.finished_at is not None, "only the end of a job is announced"
    shown = present_job(job, services.links, attempts=job.attempts)
    assert job.expires_at is not None and delivery.last_tried_at is not None
    if job.expires_at <= delivery.last_tried_at:  # both by the database's clock
        shown = without_content(shown)
    return webhooks.encode(delivery.event, job.finished_at, shown.model_dump(mode="json"))
