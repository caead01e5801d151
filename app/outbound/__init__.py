"""Requests to URLs chosen by strangers, which can reach the public internet and nothing else."""

from app.outbound.client import Network, Response, fetch, post
from app.outbound.guard import Allow, is_public, parse_allow, vet_url

__all__ = [
    "Allow",
    "Network",
    "Response",
    "fetch",
    "is_public",
    "parse_allow",
    "post",
    "vet_url",
]
