"""Limits submits per minute and key; the headers follow draft-ietf-httpapi-ratelimit-headers-10.

A token bucket per key in the home region's Redis. Without Redis nobody is refused: the limit only
keeps keys out of each other's way, and the queue is fair without it.
"""

from dataclasses import dataclass
from importlib.resources import files
from math import ceil

import redis
from flask import Response, g

from app.api.process.services import Services
from app.domain.errors import BadRequest

WINDOW_S = 60
NAME = "submits"

_TAKE = files("app.broker").joinpath("rate.lua").read_text()


@dataclass(frozen=True)
class Spent:
    """A key's bucket after a request: `quota` per WINDOW_S, how much is left, when it is full."""

    quota: int
    left: int
    full_in_s: float
    retry_in_s: float  # 0: the request is allowed


def spend(services: Services) -> None:
    """Count one submit against this request's key. Raises BadRequest: rate_limited (429)."""
    quota = g.api_key.submits_per_minute
    if quota is None:
        quota = services.settings.submits_per_minute
    if not quota:
        return
    spent = services.hint(
        services.settings.region, lambda client: _take(client, str(g.api_key.id), quota)
    )
    if spent is None:
        return
    g.rate_spent = spent
    if spent.retry_in_s:
        raise BadRequest(
            "rate_limited",
            f"This key may submit {quota} jobs per minute.",
            status=429,
            retry_after_s=spent.retry_in_s,
        )


def _take(client: redis.Redis, key_id: str, quota: int) -> Spent:
    left, full_ms, retry_ms = client.eval(
        _TAKE, 1, f"stillmotion:rate:{NAME}:{key_id}", quota, WINDOW_S * 1000
    )
    return Spent(quota, left, full_ms / 1000, retry_ms / 1000)


def add_headers(response: Response) -> None:
    """Add the limit's headers to the response of a counted request."""
    spent: Spent | None = g.get("rate_spent")
    if spent is not None:
        response.headers["RateLimit-Policy"] = f'"{NAME}";q={spent.quota};w={WINDOW_S}'
        response.headers["RateLimit"] = f'"{NAME}";r={spent.left};t={ceil(spent.full_in_s)}'
