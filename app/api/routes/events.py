"""A job's life as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events).

`status` on every change of state, `progress` on every step, `queue` now and then while it waits,
and `completed` with the whole job at its end. An event's id is its place in the job's life
(app/public/timeline.py), so `Last-Event-ID` resumes on any API process.
"""

import json
import random
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Row

from app.api.models.answers import StreamedEvent
from app.api.models.schemas import dump_job
from app.api.openapi.operation import JOB_CODES, Answer, describe
from app.api.process.hub import Followed
from app.api.process.services import Services, services
from app.api.request import auth, job_view
from app.api.routes.jobs import own
from app.domain.errors import BadRequest, DatabaseUnavailable
from app.public.timeline import Phase, Position, changes
from app.store.job import jobs
from stillmotion.states import JobState

RETRY_MS = 1000
QUEUE_EVERY_S = 2.0
BEAT_S = 15.0  # proxies drop what is silent; and only a write finds out that a client is gone
WAKE_S = 1.0
SEND_TIMEOUT_S = 10.0  # a client that reads nothing
LONGEST_S = 3600.0  # a stream ends then, and its client resumes

_LAST_EVENT_ID = re.compile(r"([0-9]{1,9})\.([0-4])\.([0-9]{1,9})")

bp = Blueprint("events", __name__, url_prefix="/v1/jobs")
bp.before_request(auth.require_jobs)


@bp.get("/<job_id>/events")
@describe(
    {
        200: Answer("The events.", StreamedEvent, "text/event-stream"),
        204: Answer("The caller has seen the job's end: do not come back."),
    },
    headers=("Last-Event-ID",),
    codes=(*JOB_CODES, "invalid_last_event_id", "too_many_streams"),
)
def stream_events(job_id: str) -> ResponseReturnValue:
    """Stream a job's events until it has ended (server-sent events)."""
    parts = services()
    after = _last_event_id()
    with parts.store.autocommit() as conn:
        row = own(conn, job_id, jobs.get_whole)
    if JobState(row.state).terminal and after >= Position(row.fence, Phase.ENDED):
        return "", 204  # tells an EventSource not to come back
    if not parts.gate.start_waiting():
        raise BadRequest(
            "too_many_streams",
            "This server streams to as many clients as it can; poll, or come back.",
            status=503,
            retry_after_s=5,
        )
    followed = parts.hub.follow(row)
    if sock := request.environ.get("gunicorn.socket"):
        sock.settimeout(SEND_TIMEOUT_S)
    stream = _Stream(parts, row, followed, after)
    answer = Response(stream.run(), mimetype="text/event-stream")
    # Also when the client went away before the first byte.
    answer.call_on_close(stream.close)
    answer.headers["X-Accel-Buffering"] = "no"  # nginx would keep events back
    return answer


def _last_event_id() -> Position:
    """Where the caller has got to. Raises BadRequest: invalid_last_event_id."""
    given = request.headers.get("Last-Event-ID")
    if not given:
        return Position(-1, Phase.QUEUED)
    match = _LAST_EVENT_ID.fullmatch(given)
    if match is None:
        raise BadRequest("invalid_last_event_id", "Last-Event-ID is not an id of these events.")
    return Position(int(match[1]), Phase(int(match[2])), int(match[3]))


class _Stream:
    """One client's stream. It runs without a place among the requests that work."""

    def __init__(self, parts: Services, row: Row[Any], followed: Followed, after: Position):
        self._parts = parts
        self._row = row
        self._followed = followed
        self._sent = after
        self._owner_id = g.api_key.id

    def close(self) -> None:
        self._parts.hub.leave(self._followed)
        self._parts.gate.stop_waiting()

    def run(self) -> Iterator[str]:
        yield f"retry: {RETRY_MS}\n\n"
        began = beat_at = time.monotonic()
        queue_at = 0.0
        version = -1  # of no news: the first look is at the row that came with the request
        while True:
            version = self._followed.version
            try:
                self._refresh()
                lines = [*self._status(), *self._progress()]
                if self._row.state == JobState.QUEUED and time.monotonic() >= queue_at:
                    queue_at = time.monotonic() + QUEUE_EVERY_S * random.uniform(0.9, 1.1)
                    lines.append(self._queue())
            except DatabaseUnavailable:
                lines = []  # the next look may succeed; the stream stays
            yield from lines
            if JobState(self._row.state).terminal and self._sent.phase is Phase.ENDED:
                return
            now = time.monotonic()
            if lines:
                beat_at = now
            elif now - beat_at > BEAT_S:
                beat_at = now
                yield ":\n\n"
            if now - began > LONGEST_S or not self._parts.hub.alive():
                return
            self._followed.wait(version, WAKE_S)

    def _refresh(self) -> None:
        """Read the row if the hub has seen another state of it."""
        known = JobState(self._row.state), self._row.fence
        if (self._followed.state, self._followed.fence) != known:
            with self._parts.store.autocommit() as conn:
                row = jobs.get_whole(conn, self._row.id, owner_id=self._owner_id)
            if row is not None:
                self._row = row

    def _status(self) -> Iterator[str]:
        for change in changes(self._row):
            if change.position <= self._sent:
                continue
            self._sent = change.position
            attempt = change.attempt
            data = {
                "state": change.state.value,
                "terminal": change.state.terminal,
                "at": change.at.isoformat(),
                "attempt": None if attempt is None else attempt["fence"],
                "region": None if attempt is None else attempt["region"],
                "reason": change.reason,
            }
            # The end is one place in the job's life and two events: who got only the first
            # resumes before it.
            yield _event("status", data, None if change.state.terminal else change.position)
            if change.state.terminal:
                row = self._row
                shown = dump_job(row, self._parts.links, attempts=row.attempts)
                yield _event("completed", shown, change.position)

    def _progress(self) -> Iterator[str]:
        row, step = self._row, self._followed.step
        if row.state != JobState.PROCESSING or step.fence != row.fence or not step.step:
            return
        position = Position(step.fence, Phase.PROCESSING, step.step)
        if position <= self._sent:
            return
        self._sent = position
        eta_s = job_view.done_in_s(job_view.running(self._parts, row, step.step))
        at = datetime.fromtimestamp(step.at or time.time(), UTC)
        data = {
            "step": min(step.step, row.steps),
            "steps": row.steps,
            "attempt": step.fence,
            "eta_seconds": None if eta_s is None else round(eta_s, 3),
            "at": at.isoformat(),
        }
        yield _event("progress", data, position)

    def _queue(self) -> str:
        """Worked out once for all that stream this job."""
        followed = self._followed
        with followed.lock:
            if followed.queue is None or time.monotonic() >= followed.queue_until:
                queue, eta_s = job_view.place_in_queue(self._parts, self._row)
                shown = queue.model_dump(mode="json")
                shown["eta_seconds"] = None if eta_s is None else round(eta_s, 3)
                followed.queue = shown
                followed.queue_until = time.monotonic() + QUEUE_EVERY_S / 2
            return _event("queue", followed.queue, None)


def _event(name: str, data: dict[str, Any], position: Position | None) -> str:
    """One event; without a position it moves no client's Last-Event-ID."""
    head = "" if position is None else f"id: {position}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
