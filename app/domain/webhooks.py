"""Standard Webhooks 1.0: bodies, signatures, and the schedule of retries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from stillmotion.signatures import TEST_EVENT, sign

# Seconds from each failed try to the next, as in the specification's "Deliverability and
# reliability"; the first entry is the wait before the first try. Ten tries over 75 hours.
SCHEDULE_S = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1  # of the wait; only ever added, so that receivers can rely on the schedule
RETRY_AFTER_LIMIT_S = 86_400.0

TIMEOUT_S = 15.0  # one try, from resolving the name to the status line
# How long a worker may record its try. Longer than any try, including waits for the database.
TRY_LEASE_S = 60.0
PUBLISHED_LEASE_S = 60.0  # a message that no worker takes by then is published again

# Tries under way at one receiver (host and port). A receiver that answers in 100 ms then gets 40 a
# second, and one that never answers holds four threads for TIMEOUT_S at a time.
RECEIVER_LIMIT = 4
# And of one owner, whatever the number of receivers: a quarter of a CPU worker's threads.
OWNER_LIMIT = 8

MAX_BODY_BYTES = 20_000
# The specification names 429, 502 and 504; RFC 9110 defines Retry-After for 503.
THROTTLES = frozenset({429, 502, 503, 504})
GONE = 410


def secret_for(secret_key: str, subject: UUID, version: int = 1) -> str:
    """The secret that a receiver verifies with. It is derived, so none is stored that could leak.

    `subject`: an endpoint's id, or the owner's id for addresses that jobs name. A rotation raises
    `version`.
    """
    key = hmac.digest(secret_key.encode(), f"webhook:v{version}:{subject}".encode(), "sha256")
    return "whsec_" + base64.b64encode(key).decode()


def headers(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Every header of one try. `message_id` stays the same over all tries of a message.

    Each of `secrets` signs, so during a rotation a receiver may use either.
    """
    signatures = [sign(secret, message_id, timestamp, body) for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def encode(event: str, ended_at: datetime, job: Mapping[str, Any]) -> bytes:
    """The body: the job as the API shows it, with links and never media.

    A job may have been placed hundreds of times, and its metadata may be long. If the body would
    exceed MAX_BODY_BYTES, the oldest attempts are left out, then the metadata, and `truncated`
    names what is not whole. The job's own link shows everything.
    """
    job = dict(job)
    truncated: list[str] = []
    while True:
        body = _message(event, ended_at, {"job": job, "truncated": truncated})
        if len(body) <= MAX_BODY_BYTES:
            return body
        if attempts := job.get("attempts"):
            job["attempts"] = attempts[(len(attempts) + 1) // 2 :]
            truncated = ["attempts"]
        elif job.pop("metadata", None):
            truncated = [*truncated, "metadata"]
        else:
            return body


def encode_test(asked_at: datetime, endpoint_id: UUID) -> bytes:
    """The body of a test event."""
    return _message(TEST_EVENT, asked_at, {"webhook_id": str(endpoint_id)})


def _message(event: str, moment: datetime, data: Mapping[str, Any]) -> bytes:
    message = {
        "type": event,
        "timestamp": moment.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": data,
    }
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


class Outcome(StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    GIVEN_UP = "given_up"
    GONE = "gone"  # given up, and the endpoint wants no more webhooks


@dataclass(frozen=True)
class Verdict:
    """What follows from one try. `delay_s` is for RETRY."""

    outcome: Outcome
    delay_s: float = 0.0


def decide(status: int | None, retry_after_s: float | None, tries: int, draw: float) -> Verdict:
    """Judge try number `tries` >= 1 of the schedule.

    `status`: the HTTP status; None if there was no answer. A redirect is a failure: following it
    would post a signed message to an address that nobody registered. `retry_after_s` can only
    lengthen a wait, or a receiver could use up every try within seconds. `draw`: in [0, 1).
    """
    if status is not None and 200 <= status < 300:
        return Verdict(Outcome.DELIVERED)
    if status == GONE:
        return Verdict(Outcome.GONE)
    if tries >= len(SCHEDULE_S):
        return Verdict(Outcome.GIVEN_UP)
    delay_s = SCHEDULE_S[tries] * (1 + JITTER * draw)
    if status in THROTTLES and retry_after_s is not None:
        delay_s = max(delay_s, min(retry_after_s, RETRY_AFTER_LIMIT_S))
    return Verdict(Outcome.RETRY, delay_s)
