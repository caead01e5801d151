"""Receives a request's body while the request holds no working place.

The views read `request.get_data()` and `request.form` as ever. The first read waits for the whole
body: in memory, or in a temporary file if it is long.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from flask import g, request
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from app.api.process.arrival import Arrival, TooSlow
from app.api.process.services import get_services
from app.domain.errors import BadRequest

IN_MEMORY_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024
# Of all callers without a key: addresses are cheap.
NOBODY = "nobody"


def receive_aside() -> None:
    """Have this request's body received aside. Call it before anything reads the body."""
    arrival = getattr(request.environ["wsgi.input"], "arrival", None)
    if arrival is not None:  # in a test client everything is here already
        request.environ["wsgi.input"] = _Body(request.environ["wsgi.input"], arrival)


@contextmanager
def fetching() -> Iterator[None]:
    """Hold a receiving place instead of the working place: for bytes from somewhere else.

    Raises BadRequest: too_many_uploads (503).
    """
    gate = get_services().gate
    with gate.aside(gate.receiving, _owner()) as may_wait:
        if not may_wait:
            raise _no_place()
        yield


class _Body:
    """The WSGI input.

    Reading it raises BadRequest: bad_request, body_too_slow (408), too_many_uploads (503).
    """

    def __init__(self, source: Any, arrival: Arrival):
        self._source = source
        self._arrival = arrival
        self._received: IO[bytes] | None = None

    def read(self, size: int = -1) -> bytes:
        if self._received is None:
            self._received = self._receive()
        return self._received.read(size)

    def close(self) -> None:
        if self._received is not None:
            self._received.close()

    def _receive(self) -> IO[bytes]:
        gate, owner = get_services().gate, _owner()
        aside = False

        def go_aside() -> None:
            nonlocal aside
            if not gate.receiving.take(owner):
                raise _no_place()
            gate.leave()
            aside = True

        self._arrival.on_wait = go_aside
        try:
            return self._spool()
        except TooSlow:
            raise BadRequest(
                "body_too_slow", "The body arrived too slowly.", status=408, retry_after_s=1
            ) from None
        except (ParseException, NoMoreData):
            raise BadRequest("bad_request", "The body is malformed or incomplete.") from None
        finally:
            if aside:
                gate.receiving.give_back(owner)
                gate.enter()

    def _spool(self) -> IO[bytes]:
        """Raises also 413: werkzeug itself would cut a chunked body at the limit, silently."""
        left = request.max_content_length
        assert left is not None, "the application's default limit"
        # Read until the request ends.
        spool = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
        while data := self._source.read(min(left + 1, PIECE_BYTES)):
            left -= len(data)
            if left < 0:
                raise RequestEntityTooLarge
            spool.write(data)
        spool.seek(0)
        return spool


def _owner() -> Any:
    """Whose receiving place this is."""
    if "api_key" in g:
        return g.api_key.id
    return g.get("uploader", NOBODY)


def _no_place() -> BadRequest:
    return BadRequest(
        "too_many_uploads",
        "Too many bodies or pictures are still arriving; send fewer at once.",
        status=503,
        retry_after_s=1,
    )
