"""API keys: `Authorization: Bearer sm_...`, checked before a request's body is read."""

from flask import g, request

from app.api.services import services
from app.domain.errors import BadRequest
from app.store import keys


def require_key() -> None:
    """Let the request through if its key is live; `g.api_key` is the key.

    Raises BadRequest: missing_api_key or invalid_api_key (401).
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
    g.api_key = key


def require_jobs() -> None:
    """The same, for a key that may use jobs. Raises BadRequest: insufficient_scope (403)."""
    require_key()
    _require_scope("jobs")


def require_admin() -> None:
    """The same, for an operator's key."""
    require_key()
    _require_scope("admin")


def _require_scope(scope: str) -> None:
    if scope not in g.api_key.scopes:
        raise BadRequest(
            "insufficient_scope", f"The API key lacks the scope `{scope}`.", status=403
        )
