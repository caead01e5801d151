"""The service knows its own host from PUBLIC_URL, never from what a client says it is."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit


class OwnHost:
    """WSGI middleware: every request is for PUBLIC_URL's host.

    The Host header is anybody's to choose. Believed, it would be in redirects and in the help
    page's examples, and a page of another name that leads here (DNS rebinding) would pass for our
    own. Unknown hosts are not refused: health checks and neighbours call by address.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], public_url: str):
        self._app = app
        self._host = urlsplit(public_url).netloc.rpartition("@")[2]

    def __call__(self, environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
        environ["HTTP_HOST"] = self._host
        return self._app(environ, start_response)
