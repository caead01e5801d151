"""The receiving side of webhooks."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from stillmotion.answers import Answer, Job
from stillmotion.errors import UnexpectedAnswer
from stillmotion.signatures import TOLERANCE_S, InvalidWebhook, verify


class WebhookMessage(Answer):
    """A message that was verified. `id` is the same in every try of it: handle it once."""

    id: str
    type: str  # job.succeeded, job.failed, job.canceled, job.expired, webhook.test
    timestamp: datetime  # of what it tells
    data: dict[str, Any]

    @property
    def job(self) -> Job | None:
        """The job as the API shows it; None in a test. Raises UnexpectedAnswer."""
        job = self.data.get("job")
        return None if job is None else Job.of(job)


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
) -> WebhookMessage:
    """Check a message's signature (Standard Webhooks 1.0) and age, and read it.

    `body`: as it came, before anything parses it. `headers`: names in any case. `secret`: any of
    several may have signed. Raises InvalidWebhook, to be answered with 401.
    """
    known = {name.lower(): value for name, value in headers.items()}
    secrets = [secret] if isinstance(secret, str) else secret
    verify(secrets, known, body, now=time.time(), tolerance_s=tolerance_s)
    try:
        message = json.loads(body)
        return WebhookMessage.of({**message, "id": known["webhook-id"]})
    except (ValueError, TypeError, UnexpectedAnswer):
        raise InvalidWebhook("The body is no message of this API.") from None
