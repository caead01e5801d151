"""Identifies the caller by `Authorization: Bearer sm_...` or by the pages' session cookie.

This happens before a request's body is read.
"""

from flask import g, request

from app.api.process.services import get_services
from app.api.request import session_cookie
from app.domain.errors import BadRequest, DatabaseUnavailable
from app.store import keys
from app.store.keys import ApiKey


def require_key() -> None:
    """Require a live key and store it as `g.api_key`.

    Raises BadRequest: missing_api_key, invalid_api_key or invalid_session (401),
    cross_site_request (403).
    """
    g.api_key = _bearer() if "Authorization" in request.headers else _session()


def require_jobs() -> None:
    """Like `require_key`, for keys that may use jobs. Raises also insufficient_scope (403)."""
    require_key()
    _require_scope("jobs")


def require_admin() -> None:
    """Like `require_key`, for operators' keys. Raises also insufficient_scope (403)."""
    require_key()
    _require_scope("admin")


def is_operator() -> bool:
    """Whether the caller's key is an operator's."""
    return "admin" in g.api_key.scopes


def require_jobs_or_admin() -> None:
    """Like `require_key`, for keys of either scope. Raises also insufficient_scope (403)."""
    require_key()
    _require_scope("jobs", "admin")


def require_still_live() -> None:
    """For requests that wait. Raises BadRequest (401) if their key was revoked meanwhile."""
    try:
        key = get_services().keys.get(g.api_key.id)
    except DatabaseUnavailable:
        return  # a job cannot be read either
    if key is None:
        raise _revoked() if "Authorization" in request.headers else _signed_out()


def _require_scope(*any_of: str) -> None:
    if not set(any_of) & set(g.api_key.scopes):
        raise BadRequest(
            "insufficient_scope", f"The API key lacks the scope `{any_of[0]}`.", status=403
        )


def _bearer() -> ApiKey:
    scheme, _, token = request.headers["Authorization"].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _missing()
    key = find_key(token.strip())
    if key is None:
        raise _revoked()
    return key


def _session() -> ApiKey:
    if not session_cookie.is_sent():
        raise _missing()
    key = session_key()
    if key is None:
        raise _signed_out()
    # Browsers send the cookie unasked, so another site may have caused the request.
    session_cookie.require_same_origin()
    return key


def _revoked() -> BadRequest:
    return BadRequest("invalid_api_key", "The API key is unknown or revoked.", status=401)


def _signed_out() -> BadRequest:
    return BadRequest("invalid_session", "The session has ended; sign in again.", status=401)


def _missing() -> BadRequest:
    return BadRequest(
        "missing_api_key", "Send your API key as `Authorization: Bearer sm_...`.", status=401
    )


def find_key(plain: str) -> ApiKey | None:
    """The live key with this plain text. Raises DatabaseUnavailable."""
    return get_services().keys.find(plain) if plain.startswith(keys.PREFIX) else None


def session_key() -> ApiKey | None:
    """The live key that the request's cookie names, if any. Raises DatabaseUnavailable."""
    key_id = session_cookie.read()
    return None if key_id is None else get_services().keys.get(key_id)
