"""Standard Webhooks 1.0: how a message is signed and verified, and the events that are announced.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from enum import StrEnum

from stillmotion.errors import StillmotionError

TOLERANCE_S = 300.0  # how far a message's time may be from the receiver's

ROTATION_GRACE_S = 86_400  # both secrets sign for this long, unless the owner says otherwise


class WebhookEvent(StrEnum):
    """What is announced: every end of a job. The names are those of the states."""

    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"
    EXPIRED = "job.expired"


TEST_EVENT = "webhook.test"


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature of `webhook-signature`. `timestamp`: Unix seconds of this try."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


class InvalidWebhook(StillmotionError):
    """What came is not a message that was signed with the secret, or not of now."""

    code = "invalid_webhook"


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance_s: float = TOLERANCE_S,
) -> None:
    """Check what `headers` says of `body`; any of `secrets` may have signed it.

    `headers`: names in lower case. `now`: Unix seconds. An old message is refused, or whoever has
    seen one could send it again for ever. Raises InvalidWebhook.
    """
    try:
        message_id, timestamp, given = (
            headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")
        )
    except KeyError as error:
        raise InvalidWebhook(f"There is no {error.args[0]} header.") from None
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise InvalidWebhook("webhook-timestamp is no time.")
    if abs(now - int(timestamp)) > tolerance_s:
        raise InvalidWebhook("The message is too old, or this clock is wrong.")
    good = False
    for secret in secrets:
        if not _is_secret(secret):
            raise InvalidWebhook("A secret is whsec_ and 24 bytes or more in base64.")
        wanted = sign(secret, message_id, int(timestamp), body).encode()
        for signature in given.split():
            # All are compared, each in constant time: how long it takes tells nothing.
            good |= hmac.compare_digest(signature.encode(), wanted)
    if not good:
        raise InvalidWebhook("No signature is that of the secret.")


def _is_secret(text: str) -> bool:
    """Whether nobody can guess it: an empty one would verify what anybody signs."""
    try:
        return len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) >= 24
    except ValueError:
        return False
