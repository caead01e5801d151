"""The cookie that keeps a browser signed in, and the check that a request is the page's own.

The cookie names the API key but does not contain it: a stolen cookie reveals no key, and revoking
the key ends the session. SameSite=Strict keeps the cookie out of other sites' requests; the origin
check covers browsers and subdomains where that is not enough.
"""

import hashlib
import hmac
from uuid import UUID

from flask import Response, after_this_request, request
from itsdangerous import BadSignature, TimestampSigner, URLSafeTimedSerializer

from app.api.process.services import get_services
from app.domain.errors import BadRequest

SESSION_S = 7 * 86_400
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class _Signer(TimestampSigner):
    """Dates cookies by the database's clock: hosts refuse a cookie from their future."""

    def get_timestamp(self) -> int:
        return int(get_services().clock())


def _serializer() -> URLSafeTimedSerializer:
    # Its own key: nothing signed here can pass for something signed elsewhere.
    secrets = get_services().settings.secret_keys
    return URLSafeTimedSerializer(
        # The last one signs, all are accepted.
        [hmac.digest(key.encode(), b"stillmotion sessions v1", "sha256") for key in secrets[::-1]],
        signer=_Signer,
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def _secure() -> bool:
    return request.is_secure or get_services().settings.public_url.startswith("https://")


def _name() -> str:
    # With the prefix, browsers accept it only from this exact host, over TLS.
    return "__Host-stillmotion" if _secure() else "stillmotion"


def is_sent() -> bool:
    """Whether the request carries a session cookie, valid or not."""
    return _name() in request.cookies


def read() -> UUID | None:
    """The id of the key that the request's cookie names; None without a valid cookie."""
    try:
        return UUID(_serializer().loads(request.cookies.get(_name(), ""), max_age=SESSION_S))
    except (BadSignature, ValueError):
        return None


def write(key_id: UUID) -> None:
    """Sign the browser in with this request's response."""

    @after_this_request
    def set_cookie(response: Response) -> Response:
        response.set_cookie(
            _name(),
            _serializer().dumps(key_id.hex),
            max_age=SESSION_S,
            httponly=True,
            secure=_secure(),
            samesite="Strict",
        )
        return response


def clear() -> None:
    """Sign the browser out with this request's response."""

    @after_this_request
    def delete_cookie(response: Response) -> Response:
        response.delete_cookie(_name(), httponly=True, secure=_secure(), samesite="Strict")
        return response


def require_same_origin() -> None:
    """Refuse an unsafe request that our own pages did not send.

    Browsers send Sec-Fetch-Site over TLS and on loopback, and Origin with every unsafe request.
    Raises BadRequest: cross_site_request (403).
    """
    if request.method in SAFE:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        own = {request.host, get_services().settings.public_url.partition("://")[2].rstrip("/")}
        if request.headers.get("Origin", "").partition("://")[2] in own:
            return
    elif site == "same-origin":
        return
    raise BadRequest(
        "cross_site_request", "A session works only from this service's own pages.", status=403
    )
