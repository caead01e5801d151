"""Sign in and out, for the pages: the key is sent once, then a cookie stands for it."""

import redis
from flask import Blueprint, request

from app.api.models.base import parse_json
from app.api.models.session import Session, SessionKey, SignIn
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import get_services
from app.api.request import auth, session_cookie
from app.api.request.errors import problem
from app.domain.errors import BadRequest
from app.store.keys import ApiKey

# Guessing 256 bits is hopeless; this keeps guessers away from the database.
ATTEMPTS, WINDOW_S = 20, 60

bp = Blueprint("sessions", __name__, url_prefix="/v1/session")
bp.before_request(session_cookie.require_same_origin)


@bp.get("")
@describe({200: ResponseSpec("The session.", Session)}, scope=None, codes=("database_unavailable",))
def show_session() -> Result:
    """Show the key that the browser is signed in with; null without a session, never a 401."""
    return _present(auth.session_key())


@bp.post("")
@describe(
    {200: ResponseSpec("Signed in.", Session, headers=("Set-Cookie",))},
    scope=None,
    body=SignIn,
    codes=(
        "invalid_api_key",
        "too_many_attempts",
        "cross_site_request",
        "database_unavailable",
    ),
)
def sign_in() -> Result:
    """Sign the browser in; limited to ATTEMPTS per WINDOW_S and address, successful or not."""
    services = get_services()
    # None while Redis is down: then nobody counts.
    wait_s = services.hint(services.settings.region, _spend)
    if wait_s:
        return problem(
            429,
            "too_many_attempts",
            f"Too many sign-ins from your address; try again in {wait_s} seconds.",
            retryable=True,
            headers={"Retry-After": str(wait_s)},
        )
    key = auth.find_key(parse_json(SignIn, request.get_data()).api_key.strip())
    if key is None:
        raise BadRequest(
            "invalid_api_key", "The API key is unknown or revoked.", status=401, pointer="/api_key"
        )
    session_cookie.write(key.id)
    return _present(key)


@bp.delete("")
@describe(
    {200: ResponseSpec("Signed out.", Session, headers=("Set-Cookie",))},
    scope=None,
    codes=("cross_site_request",),
)
def sign_out() -> Result:
    """Sign the browser out."""
    session_cookie.clear()
    return _present(None)


def _present(key: ApiKey | None) -> Session:
    shown = None
    if key is not None:
        shown = SessionKey(id=key.id, name=key.name, scopes=list(key.scopes))
    return Session(object="session", key=shown)


def _spend(client: redis.Redis) -> int:
    """Count one attempt of the caller's address; returns the seconds to wait, 0 if it may go on."""
    name = f"stillmotion:sign-in:{request.remote_addr}"
    pipe = client.pipeline(transaction=True)
    pipe.set(name, 0, ex=WINDOW_S, nx=True)
    pipe.incr(name)
    pipe.ttl(name)
    _, count, left_s = pipe.execute()
    return max(1, left_s) if count > ATTEMPTS else 0
