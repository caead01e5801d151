"""A job as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events).

`status` on every change of state, `progress` on every step, `queue` from time to time while the job
waits, and `completed` with the whole job at its end. An event's id is its position in the job's
life (app/public/timeline.py), so `Last-Event-ID` resumes on any API process.
"""

import json
import random
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, g, request

from app.api.models.job import EventsQuery, StreamedEvent
from app.api.models.query_string import parse_query
from app.api.openapi.operation import JOB_CODES, ResponseSpec, Result, describe
from app.api.process.hub import Followed
from app.api.process.services import Services, get_services
from app.api.request import auth, job_view
from app.api.request.owned_job import visible_job
from app.domain.errors import BadRequest, DatabaseUnavailable
from app.public.present import present_job
from app.public.timeline import Phase, Position, changes, furthest
from app.store.job import jobs
from app.store.job.records import WholeJob
from stillmotion.states import JobState

RETRY_MS = 1000
QUEUE_EVERY_S = 2.0
BEAT_S = 15.0  # proxies drop silent streams, and only a write reveals that a client is gone
WAKE_S = 1.0
SEND_TIMEOUT_S = 10.0  # for a client that does not read
LONGEST_S = 3600.0  # then the stream ends and its client resumes

NOTHING_SEEN = Position(-1, Phase.QUEUED)
_LAST_EVENT_ID = re.compile(r"([0-9]{1,9})\.([0-4])\.([0-9]{1,9})")

bp = Blueprint("events", __name__, url_prefix="/v1/jobs")
bp.before_request(auth.require_jobs_or_admin)


@bp.get("/<job_id>/events")
@describe(
    {
        200: ResponseSpec("The events.", StreamedEvent, "text/event-stream"),
        204: ResponseSpec("The caller has already seen the end; do not reconnect."),
    },
    query=EventsQuery,
    headers=("Last-Event-ID",),
    codes=(*JOB_CODES, "invalid_last_event_id", "too_many_streams"),
)
def stream_events(job_id: str) -> Result:
    """Stream a job's events until it has ended (server-sent events)."""
    services = get_services()
    after = _last_event_id()
    with services.store.autocommit() as conn:
        job = visible_job(conn, job_id, "jobs.follow")
    if JobState(job.state).terminal and after == Position(job.fence, Phase.ENDED):
        return None, 204  # tells an EventSource not to reconnect
    if after > furthest(job):
        after = NOTHING_SEEN  # an id of another job, or from before a restored backup
    if not services.gate.waiting.take(g.api_key.id):
        raise BadRequest(
            "too_many_streams",
            "There is no room for another stream of this key; poll, or try again later.",
            status=503,
            retry_after_s=5,
        )
    followed = services.hub.follow(job)
    if sock := request.environ.get("gunicorn.socket"):
        sock.settimeout(SEND_TIMEOUT_S)
    stream = _Stream(services, job, followed, after)
    response = Response(stream.run(), mimetype="text/event-stream")
    # Runs even if the client leaves before the first byte.
    response.call_on_close(stream.close)
    response.headers["X-Accel-Buffering"] = "no"  # keeps nginx from buffering
    return response


def _last_event_id() -> Position:
    """The last position the caller has seen. Raises Invalid, BadRequest: invalid_last_event_id."""
    query = parse_query(EventsQuery, request.query_string)
    given = request.headers.get("Last-Event-ID") or query.last_event_id
    if not given:
        return NOTHING_SEEN
    match = _LAST_EVENT_ID.fullmatch(given)
    if match is None:
        raise BadRequest(
            "invalid_last_event_id", "Last-Event-ID is not the id of an event of this job."
        )
    return Position(int(match[1]), Phase(int(match[2])), int(match[3]))


class _Stream:
    """One client's stream. It does not hold a request slot."""

    def __init__(self, services: Services, job: WholeJob, followed: Followed, after: Position):
        self._services = services
        self._job = job
        self._followed = followed
        self._sent = after
        self._ended = False
        self._key_id = g.api_key.id
        self._operator = auth.is_operator()

    def close(self) -> None:
        self._services.hub.leave(self._followed)
        self._services.gate.waiting.give_back(self._key_id)

    def run(self) -> Iterator[str]:
        yield f"retry: {RETRY_MS}\n\n"
        began = beat_at = time.monotonic()
        queue_at = 0.0
        while True:
            version = self._followed.version
            if self._key_is_revoked():
                return
            lines: list[str] = []
            try:
                self._refresh()
                lines += self._status()
                lines += self._progress()
                if self._job.state == JobState.QUEUED and time.monotonic() >= queue_at:
                    queue_at = time.monotonic() + QUEUE_EVERY_S * random.uniform(0.9, 1.1)
                    lines.append(self._queue())
            except DatabaseUnavailable:
                pass  # keep the stream; the next look may succeed
            yield from lines
            if self._ended:
                return
            now = time.monotonic()
            if lines:
                beat_at = now
            elif now - beat_at > BEAT_S:
                beat_at = now
                yield ":\n\n"
            if now - began > LONGEST_S or not self._services.hub.alive():
                return
            self._followed.wait(version, WAKE_S)

    def _key_is_revoked(self) -> bool:
        """Asked before every row, because rows are shown with links that work without the key."""
        try:
            return self._services.keys.get(self._key_id) is None
        except DatabaseUnavailable:
            return False  # no row can be read either

    def _refresh(self) -> None:
        """Read the job again if the hub has seen another state."""
        known = JobState(self._job.state), self._job.fence
        if (self._followed.state, self._followed.fence) != known:
            with self._services.store.autocommit() as conn:
                job = jobs.get_whole(conn, self._job.id, owner_id=self._job.owner_id)
            if job is not None:
                self._job = job

    def _status(self) -> Iterator[str]:
        for change in changes(self._job):
            # The end is always sent: whatever a client claims to have seen, its stream must end.
            if change.position <= self._sent and not change.state.terminal:
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
            # The end is one position but two events: a client that got only the first one
            # resumes before it.
            yield _event("status", data, None if change.state.terminal else change.position)
            if change.state.terminal:
                job = self._job
                shown = present_job(
                    job, self._services.links, attempts=job.attempts, operator=self._operator
                )
                yield _event("completed", shown.model_dump(mode="json"), change.position)
                self._ended = True

    def _progress(self) -> Iterator[str]:
        job, step = self._job, self._followed.step
        if job.state != JobState.PROCESSING or step.fence != job.fence or not step.step:
            return
        position = Position(step.fence, Phase.PROCESSING, step.step)
        if position <= self._sent:
            return
        self._sent = position
        eta_s = job_view.done_in_s(job_view.forecast_running(self._services, job, step.step))
        at = datetime.fromtimestamp(step.at or self._services.clock(), UTC)
        data = {
            "step": min(step.step, job.steps),
            "steps": job.steps,
            "attempt": step.fence,
            "eta_seconds": None if eta_s is None else round(eta_s, 3),
            "at": at.isoformat(),
        }
        yield _event("progress", data, position)

    def _queue(self) -> str:
        """Computed once for all streams of this job."""
        followed = self._followed
        with followed.lock:
            if followed.queue is None or time.monotonic() >= followed.queue_until:
                queue, eta_s = job_view.queue_place(self._services, self._job)
                shown = queue.model_dump(mode="json")
                shown["eta_seconds"] = None if eta_s is None else round(eta_s, 3)
                followed.queue = shown
                followed.queue_until = time.monotonic() + QUEUE_EVERY_S / 2
            return _event("queue", followed.queue, None)


def _event(name: str, data: dict[str, Any], position: Position | None) -> str:
    """One event. Without a position it leaves the client's Last-Event-ID alone."""
    head = "" if position is None else f"id: {position}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
