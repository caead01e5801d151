"""Standard Webhooks 1.0: signing and verifying messages, and the events that they announce.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from enum import StrEnum

from stillmotion.errors import StillmotionError

TOLERANCE_S = 300.0  # allowed difference between the message's time and the receiver's

ROTATION_GRACE_S = 86_400  # how long both secrets sign, unless the owner says otherwise


class WebhookEvent(StrEnum):
    """One event per way in which a job can end, named after the state."""

    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"
    EXPIRED = "job.expired"


TEST_EVENT = "webhook.test"


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature of `webhook-signature`. `timestamp` is the Unix time of this try."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b"%s.%d.%s" % (_encoded(message_id), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


class InvalidWebhook(StillmotionError):
    """The message was not signed with the secret, or its time is wrong."""

    code = "invalid_webhook"


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance_s: float = TOLERANCE_S,
) -> None:
    """Check the signature in `headers` of `body`; any of `secrets` may have signed it.

    Header names are in lower case; `now` is in Unix seconds. Old messages are refused: whoever saw
    one could otherwise replay it forever. Raises InvalidWebhook.
    """
    try:
        message_id, timestamp, given = (
            headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")
        )
    except KeyError as error:
        raise InvalidWebhook(f"The {error.args[0]} header is missing.") from None
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise InvalidWebhook("webhook-timestamp is not a Unix time.")
    if abs(now - int(timestamp)) > tolerance_s:
        raise InvalidWebhook("The message is too old, or the clock here is wrong.")
    good = False
    for secret in secrets:
        if not _is_secret(secret):
            raise InvalidWebhook("A secret must be whsec_ followed by at least 24 bytes in base64.")
        wanted = sign(secret, message_id, int(timestamp), body).encode()
        for signature in given.split():
            # Compare all, each in constant time, so that timing reveals nothing.
            good |= hmac.compare_digest(_encoded(signature), wanted)
    if not good:
        raise InvalidWebhook("No signature matches the secret.")


def _encoded(header: str) -> bytes:
    """A header as bytes. Some servers hand bytes beyond UTF-8 on as surrogates: no error either."""
    return header.encode("utf-8", "surrogatepass")


def _is_secret(text: str) -> bool:
    """Whether it is too long to guess: anybody can sign with an empty one."""
    try:
        return len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) >= 24
    except ValueError:
        return False
