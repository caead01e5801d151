"""Sign in and out, for the pages: a key is sent once and then named by a cookie."""

from typing import Annotated

import redis
from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field

from app.api.models.answers import Session
from app.api.models.schemas import parse_json
from app.api.openapi.operation import Answer, describe
from app.api.process.services import services
from app.api.request import auth, session_cookie
from app.api.request.errors import problem
from app.domain.errors import BadRequest
from app.store.keys import ApiKey

# Guessing 256 bits is hopeless; this keeps those who try from the database.
ATTEMPTS, WINDOW_S = 20, 60

bp = Blueprint("sessions", __name__, url_prefix="/v1/session")
bp.before_request(session_cookie.require_same_origin)


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    api_key: Annotated[str, Field(min_length=1, max_length=200)]


@bp.get("")
@describe({200: Answer("The session.", Session)}, scope=None, codes=("database_unavailable",))
def show_session() -> ResponseReturnValue:
    """Show which key the browser is signed in with; `key` is null if none. Never a 401."""
    return _dump(auth.session_key())


@bp.post("")
@describe(
    {200: Answer("Signed in.", Session, headers=("Set-Cookie",))},
    scope=None,
    body=SignIn,
    codes=(
        "invalid_api_key",
        "too_many_attempts",
        "cross_site_request",
        "database_unavailable",
    ),
)
def sign_in() -> ResponseReturnValue:
    """Sign the browser in; ATTEMPTS per WINDOW_S and address, right or wrong."""
    parts = services()
    # None: nobody counts while Redis is away.
    wait_s = parts.hint(parts.settings.region, _spend)
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
    answer = jsonify(_dump(key))
    session_cookie.write(answer, key.id)
    return answer


@bp.delete("")
@describe(
    {200: Answer("Signed out.", Session, headers=("Set-Cookie",))},
    scope=None,
    codes=("cross_site_request",),
)
def sign_out() -> ResponseReturnValue:
    """Make the browser forget its session."""
    answer = jsonify(_dump(None))
    session_cookie.clear(answer)
    return answer


def _dump(key: ApiKey | None) -> dict[str, object]:
    shown = None
    if key is not None:
        shown = {"id": str(key.id), "name": key.name, "scopes": list(key.scopes)}
    return {"object": "session", "key": shown}


def _spend(client: redis.Redis) -> int:
    """Count one attempt of the caller's address; the seconds to wait if there were too many."""
    name = f"stillmotion:sign-in:{request.remote_addr}"
    pipe = client.pipeline(transaction=True)
    pipe.set(name, 0, ex=WINDOW_S, nx=True)
    pipe.incr(name)
    pipe.ttl(name)
    _, count, left_s = pipe.execute()
    return max(1, left_s) if count > ATTEMPTS else 0
