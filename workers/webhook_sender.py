"""One try of one webhook, from Begin to Record. Never heard of Celery."""

import random
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Row

from app import outbound
from app.api import schemas
from app.api.schemas import Links
from app.domain import webhooks
from app.domain.errors import StillmotionError
from app.domain.webhooks import Outcome, Verdict
from app.objects import Objects
from app.outbound import Allow
from app.store import deliveries, jobs
from app.store.deliveries import Due
from app.store.session import Store

log = structlog.get_logger(__name__)


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


def deliver(services: Services, due: Due) -> Outcome | None:
    """Make the try that `due` stands for. None: the message was a double, or came late.

    A worker that dies in here, or whose record is lost, leaves a lease that runs out: the receiver
    may get a message twice, always under the same `webhook-id`. Raises DatabaseUnavailable.
    """
    with services.store.once() as tx:
        delivery = deliveries.begin(tx, due)
    if delivery is None:
        log.info("stale message dropped")
        return None
    if delivery.tries > len(webhooks.SCHEDULE_S):
        # Every try was begun and the last was never recorded: it takes its worker down with it.
        answer, verdict = Answer(error="never_recorded"), Verdict(Outcome.GIVEN_UP)
    else:
        answer = _post(services, delivery)
        verdict = webhooks.decide(
            answer.status, answer.retry_after_s, delivery.tries, random.random()
        )
    with services.store.once() as tx:
        recorded = deliveries.record(
            tx, delivery.id, delivery.tries, verdict, status=answer.status, error=answer.error
        )
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
    return verdict.outcome if recorded else None


def _post(services: Services, delivery: Row[Any]) -> Answer:
    """Build, sign and post. Whatever goes wrong is an answer, so that the schedule applies."""
    try:
        body = _body(services, delivery)
        now = time()
        response = outbound.post(
            delivery.url,
            body=body,
            headers=webhooks.headers(
                webhooks.secret_for(services.secret_key, delivery.owner_id),
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
    asked = webhooks.retry_after_s(response.headers.get("retry-after"), now)
    return Answer(response.status, asked, error)


def _body(services: Services, delivery: Row[Any]) -> bytes:
    """The job as the API shows it now, with a freshly signed link to its clip."""
    with services.store.once() as tx:
        job = jobs.get_whole(tx, delivery.job_id, owner_id=delivery.owner_id)
    shown = schemas.dump_job(job, services.links, attempts=job.attempts)
    return webhooks.encode(delivery.event, job.finished_at, shown)
