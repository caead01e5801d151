"""The cookie by which a browser stays signed in, and the proof that a request is the page's own.

It names the API key and does not hold it: whoever steals a cookie has no key, and revoking the key
ends the session. SameSite=Strict keeps it from other sites' requests; the check of the origin is
for browsers and subdomains where that is not enough.
"""

import hashlib
import hmac
from uuid import UUID

from flask import Response, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from app.api.process.services import services
from app.domain.errors import BadRequest

SESSION_S = 7 * 86_400
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def _serializer() -> URLSafeTimedSerializer:
    # A key of its own: what is signed here can never pass for what is signed elsewhere.
    secret = services().settings.secret_key.encode()
    return URLSafeTimedSerializer(
        hmac.digest(secret, b"stillmotion sessions v1", "sha256"),
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def _secure() -> bool:
    return request.is_secure or services().settings.public_url.startswith("https://")


def _name() -> str:
    # With the prefix a browser takes it only from this very host, over TLS.
    return "__Host-stillmotion" if _secure() else "stillmotion"


def is_sent() -> bool:
    """Whether the request has a session cookie, good or bad."""
    return _name() in request.cookies


def read() -> UUID | None:
    """The id of the key that the request's cookie names; None without a valid one."""
    try:
        return UUID(_serializer().loads(request.cookies.get(_name(), ""), max_age=SESSION_S))
    except (BadSignature, ValueError):
        return None


def write(answer: Response, key_id: UUID) -> None:
    """Sign the browser in that gets this answer."""
    answer.set_cookie(
        _name(),
        _serializer().dumps(key_id.hex),
        max_age=SESSION_S,
        httponly=True,
        secure=_secure(),
        samesite="Strict",
    )


def clear(answer: Response) -> None:
    """Sign the browser out that gets this answer."""
    answer.delete_cookie(_name(), httponly=True, secure=_secure(), samesite="Strict")


def require_same_origin() -> None:
    """Refuse an unsafe request that our own pages did not send.

    Browsers send Sec-Fetch-Site over TLS and on the loopback, and Origin with every unsafe request.
    Raises BadRequest: cross_site_request (403).
    """
    if request.method in SAFE:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        own = {request.host, services().settings.public_url.partition("://")[2].rstrip("/")}
        if request.headers.get("Origin", "").partition("://")[2] in own:
            return
    elif site == "same-origin":
        return
    raise BadRequest(
        "cross_site_request", "A session works from this service's own pages only.", status=403
    )
