"""Limits of keys: submits per minute, and bytes of uploads per day.

The headers follow draft-ietf-httpapi-ratelimit-headers-10. A token bucket per key and limit in the
home region's Redis. Without Redis nobody is refused: the limits only keep keys out of each other's
way, and the queue is fair without them.
"""

from dataclasses import dataclass
from importlib.resources import files
from math import ceil

import redis
from flask import Response, g

from app.api.process.services import Services
from app.domain.errors import BadRequest
from app.store import keys

MINUTE_S, DAY_S = 60, 86_400
# An upload counts as at least this much: a store has a cost per object, too.
LEAST_UPLOAD_BYTES = 64_000

_TAKE = files("app.broker").joinpath("rate.lua").read_text()


@dataclass(frozen=True)
class Quota:
    """`amount` per `window_s`. `unit`: as in the draft's `qu`; None: requests."""

    name: str
    amount: int
    window_s: int
    unit: str | None = None

    @property
    def policy(self) -> str:
        unit = "" if self.unit is None else f';qu="{self.unit}"'
        return f'"{self.name}";q={self.amount};w={self.window_s}{unit}'


@dataclass(frozen=True)
class Spent:
    """A key's bucket after a request: how much is left, and when it is full."""

    quota: Quota
    left: int
    full_in_s: float
    retry_in_s: float  # 0: the request is allowed


def spend_submit(services: Services) -> None:
    """Count one submit against this request's key. Raises BadRequest: rate_limited (429)."""
    most = keys.limit(g.api_key.submits_per_minute, services.settings.submits_per_minute)
    if most is not None:
        detail = f"This key may submit {most} jobs per minute."
        _spend(services, Quota("submits", most, MINUTE_S), 1, "rate_limited", detail)


def upload_limit_mb(services: Services) -> int | None:
    """What this request's key may upload per day. None: unlimited."""
    return keys.limit(g.api_key.upload_mb_per_day, services.settings.upload_mb_per_day)


def spend_upload(services: Services, size_bytes: int) -> None:
    """Count an upload, at most a day's worth, against this request's key.

    It counts when its URL is given out, whether or not it is sent.
    Raises BadRequest: upload_limit_reached (429).
    """
    most_mb = upload_limit_mb(services)
    if most_mb is not None:
        quota = Quota("uploads", most_mb * 1_000_000, DAY_S, "content-bytes")
        size_bytes = min(quota.amount, max(size_bytes, LEAST_UPLOAD_BYTES))
        detail = f"This key may upload {most_mb} MB per day."
        _spend(services, quota, size_bytes, "upload_limit_reached", detail)


def _spend(services: Services, quota: Quota, amount: int, code: str, detail: str) -> None:
    key_id = str(g.api_key.id)
    spent = services.hint(
        services.settings.region, lambda client: _take(client, key_id, quota, amount)
    )
    if spent is None:
        return
    g.rate_spent = spent
    if spent.retry_in_s:
        raise BadRequest(code, detail, status=429, retry_after_s=spent.retry_in_s)


def _take(client: redis.Redis, key_id: str, quota: Quota, amount: int) -> Spent:
    bucket = f"stillmotion:rate:{quota.name}:{key_id}"
    left, full_ms, retry_ms = client.eval(
        _TAKE, 1, bucket, quota.amount, quota.window_s * 1000, amount
    )
    return Spent(quota, left, full_ms / 1000, retry_ms / 1000)


def add_headers(response: Response) -> None:
    """Add the limit's headers to the response of a counted request."""
    spent: Spent | None = g.get("rate_spent")
    if spent is not None:
        response.headers["RateLimit-Policy"] = spent.quota.policy
        response.headers["RateLimit"] = (
            f'"{spent.quota.name}";r={spent.left};t={ceil(spent.full_in_s)}'
        )
