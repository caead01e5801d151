"""The receiving side of webhooks."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from stillmotion.errors import UnexpectedResponse
from stillmotion.models import ApiModel, Job
from stillmotion.signatures import TOLERANCE_S, InvalidWebhook, verify

WEBHOOK = "the webhook"


class WebhookMessage(ApiModel):
    """A verified message. Every try of a delivery has the same `id`, so handle each id once."""

    id: str
    type: str  # job.succeeded, job.failed, job.canceled, job.expired, webhook.test
    timestamp: datetime  # when it happened
    data: dict[str, Any]

    @property
    def truncated(self) -> list[str]:
        """Fields of the job that were too long for a message: fetch the job to see them whole."""
        return list(self.data.get("truncated", ()))

    @property
    def job(self) -> Job | None:
        """The job as the API shows it; None in a test event. Raises UnexpectedResponse."""
        job = self.data.get("job")
        return None if job is None else Job.of(job, WEBHOOK)


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
) -> WebhookMessage:
    """Check the signature (Standard Webhooks 1.0) and the age of a message, and read it.

    Pass the `body` as received, before anything parses it. Header names may be in any case. Of
    several secrets, any may have signed. Raises InvalidWebhook; respond to that with 401.
    """
    known = {name.lower(): value for name, value in headers.items()}
    secrets = [secret] if isinstance(secret, str) else secret
    verify(secrets, known, body, now=time.time(), tolerance_s=tolerance_s)
    try:
        message = json.loads(body)
        return WebhookMessage.of({**message, "id": known["webhook-id"]}, WEBHOOK)
    except (ValueError, TypeError, RecursionError, UnexpectedResponse):
        raise InvalidWebhook("The body is not a Stillmotion webhook message.") from None
