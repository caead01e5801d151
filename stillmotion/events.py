"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from stillmotion.answers import CompletedEvent, Event, ProgressEvent, QueueEvent, StatusEvent
from stillmotion.errors import UnexpectedAnswer
from stillmotion.jobs import OUTAGE_S, job_path
from stillmotion.wire import Item, Items, Open, Read, Request, Sleep, lost, pause_s, refused

SILENCE_S = 30.0  # the server says something every 15 s
RETRY_S = 1.0  # unless it says otherwise
MAX_EVENT_BYTES = 1_000_000

KINDS: dict[str, type[Event]] = {
    "status": StatusEvent,
    "progress": ProgressEvent,
    "queue": QueueEvent,
    "completed": CompletedEvent,
}


def events(job_id: str, last_event_id: str | None = None) -> Items[Event]:
    """A job's events as they happen, up to `CompletedEvent`, which holds the job.

    Goes on where it was after a lost connection; `last_event_id`: where to begin. None come of a
    job whose end was seen. A server that does not answer is waited for, OUTAGE_S at most.
    Raises Rejected, Unreachable.
    """
    path, answered, failed = job_path(job_id, "/events"), time.monotonic(), 0
    stream = Parser(last_event_id)
    while True:
        headers = {"Accept": "text/event-stream"}
        if stream.last_id is not None:
            headers["Last-Event-ID"] = stream.last_id
        retry_after, failure = None, None
        try:
            request = Request("GET", path, {"headers": headers}, silence_s=SILENCE_S)
            answer: httpx.Response = yield Open(request)
            if answer.status_code == httpx.codes.NO_CONTENT:
                return
            if answer.is_success:
                while data := (yield Read()):
                    answered, failed = time.monotonic(), 0
                    for event in stream.feed(data):
                        yield Item(event)
                        if isinstance(event, CompletedEvent):
                            return
            else:
                failure = refused(answer)
                retry_after = answer.headers.get("Retry-After")
        except httpx.RequestError as error:
            failure = lost(error)
        if failure is not None and time.monotonic() - answered > OUTAGE_S:
            raise failure
        stream.cut()
        failed += 1
        yield Sleep(pause_s(failed, retry_after) + (0.0 if retry_after else stream.retry_s))


class Parser:
    """Makes events of a stream's bytes, in whatever pieces they come."""

    def __init__(self, last_id: str | None = None):
        self.last_id = last_id
        self.retry_s = RETRY_S
        self.cut()

    def cut(self) -> None:
        """Forget the event that the end of a stream has cut off."""
        self._rest = b""
        self._fields: dict[str, list[str]] = {}
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Raises UnexpectedAnswer for what is no such stream."""
        self._rest += data
        # A CR may be half of a line's end, so it waits for what follows.
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
            raise UnexpectedAnswer(f"An event is longer than {MAX_EVENT_BYTES} bytes.")

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "retry" and value.isascii() and value.isdecimal():
            self.retry_s = min(int(value[:9]) / 1000, OUTAGE_S)
        elif name:
            self._fields.setdefault(name, []).append(value)

    def _dispatch(self) -> Event | None:
        fields, self._fields, self._size = self._fields, {}, 0
        # An event without an id leaves the place where it was.
        if "id" in fields:
            self.last_id = fields["id"][-1]
        if "data" not in fields:
            return None
        return _event(fields.get("event", ["message"])[-1], fields["data"], fields.get("id"))


def _event(name: str, data: list[str], ids: list[str] | None) -> Event:
    try:
        values: Any = json.loads("\n".join(data))
    except ValueError:
        raise UnexpectedAnswer(f"The data of a {name} event is no JSON.") from None
    if not isinstance(values, dict):
        raise UnexpectedAnswer(f"The data of a {name} event is no object.")
    shown = {"job": values} if name == "completed" else values
    head = {"name": name, "id": ids[-1] if ids else None, "data": values}
    return KINDS.get(name, Event).of(shown | head)
