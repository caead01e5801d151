"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from stillmotion.errors import UnexpectedResponse
from stillmotion.jobs import OUTAGE_S, job_path
from stillmotion.models import CompletedEvent, Event, Job, ProgressEvent, QueueEvent, StatusEvent
from stillmotion.wire import (
    Item,
    Items,
    Open,
    Read,
    Request,
    Sleep,
    no_response,
    retry_delay_s,
    source_of,
    unsuccessful,
)

SILENCE_S = 30.0  # the server sends something every 15 s
RETRY_S = 1.0  # unless the server says otherwise
MAX_EVENT_BYTES = 1_000_000

KINDS: dict[str, type[Event]] = {
    "status": StatusEvent,
    "progress": ProgressEvent,
    "queue": QueueEvent,
    "completed": CompletedEvent,
}


def events(job: Job | str, last_event_id: str | None = None) -> Items[Event]:
    """A job's events as they happen, up to `CompletedEvent`, which holds the job.

    Resumes after a lost connection. `last_event_id` starts after that event; after the last one
    there are no more. A server that does not respond is given a minute. Raises Rejected,
    Unreachable.
    """
    path, responded, failed = job_path(job, "/events"), time.monotonic(), 0
    stream = Parser(last_event_id)
    while True:
        headers = {"Accept": "text/event-stream"}
        if stream.last_id is not None:
            headers["Last-Event-ID"] = stream.last_id
        retry_after, failure = None, None
        try:
            request = Request("GET", path, {"headers": headers}, silence_s=SILENCE_S)
            response: httpx.Response = yield Open(request)
            if response.status_code == httpx.codes.NO_CONTENT:
                return
            if response.is_success:
                stream.source = source_of(response)
                while data := (yield Read()):
                    responded, failed = time.monotonic(), 0
                    for event in stream.feed(data):
                        yield Item(event)
                        if isinstance(event, CompletedEvent):
                            return
            else:
                failure = unsuccessful(response)
                retry_after = response.headers.get("Retry-After")
        except httpx.RequestError as error:
            failure = no_response(error)
        if failure is not None and time.monotonic() - responded > OUTAGE_S:
            raise failure
        stream.cut()
        failed += 1
        yield Sleep(retry_delay_s(failed, retry_after) + (0.0 if retry_after else stream.retry_s))


class Parser:
    """Turns a stream's bytes into events, however the bytes are split."""

    def __init__(self, last_id: str | None = None):
        self.last_id = last_id
        self.retry_s = RETRY_S
        self.source = "the event stream"
        self.cut()

    def cut(self) -> None:
        """Drop the event that the end of a stream has cut off."""
        self._rest = b""
        self._fields: dict[str, list[str]] = {}
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Raises UnexpectedResponse if this is not such a stream."""
        self._rest += data
        # A CR may be half of a line ending, so it waits for the next byte.
        end = -1 if self._rest.endswith(b"\r") else len(self._rest)
        lines = self._rest[:end].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + self._rest[end:]
        for line in lines:
            self._size += len(line)
            if line:
                self._line(line.decode(errors="replace"))
            elif (event := self._dispatch()) is not None:
                yield event
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise UnexpectedResponse(self.source, f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "retry" and value.isascii() and value.isdecimal():
            self.retry_s = min(int(value[:9]) / 1000, OUTAGE_S)
        elif name:
            self._fields.setdefault(name, []).append(value)

    def _dispatch(self) -> Event | None:
        fields, self._fields, self._size = self._fields, {}, 0
        # An event without an id does not move the place to resume from.
        if "id" in fields:
            self.last_id = fields["id"][-1]
        if "data" not in fields:
            return None
        name = fields.get("event", ["message"])[-1]
        return self._event(name, fields["data"], fields.get("id"))

    def _event(self, name: str, data: list[str], ids: list[str] | None) -> Event:
        try:
            values: Any = json.loads("\n".join(data))
        except ValueError:
            raise UnexpectedResponse(self.source, f"a {name} event without JSON") from None
        if not isinstance(values, dict):
            raise UnexpectedResponse(self.source, f"a {name} event without a JSON object")
        fields = {"job": values} if name == "completed" else values
        head = {"name": name, "id": ids[-1] if ids else None, "data": values}
        return KINDS.get(name, Event).of(fields | head, self.source)
