"""API keys: `Authorization: Bearer sm_...`, checked before a request's body is read."""

from flask import g, request

from app.api.services import services
from app.domain.errors import BadRequest
from app.store import keys


def require_jobs() -> None:
    """Let the request through if its key may use jobs; `g.api_key` is the key.

    Raises BadRequest: missing_api_key or invalid_api_key (401), insufficient_scope (403).
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise BadRequest(
            "missing_api_key", "Send your API key as `Authorization: Bearer sm_...`.", status=401
        )
    key = None
    if token.startswith(keys.PREFIX):
        key = services().keys.find(token.strip())
    if key is None:
        raise BadRequest("invalid_api_key", "The API key is unknown or revoked.", status=401)
    if "jobs" not in key.scopes:
        raise BadRequest("insufficient_scope", "The API key lacks the scope `jobs`.", status=403)
    g.api_key = key
