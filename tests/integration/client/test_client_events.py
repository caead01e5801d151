"""The Python client's event streams, scripted and real."""

import json

import pytest

from stillmotion import CompletedEvent, UnexpectedResponse, Unreachable, events
from tests.support.scripted_server import UNAVAILABLE, job_of


def event(name, data, position=None):
    head = "" if position is None else f"id: {position}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"


def status(state, position=None):
    data = {"state": state, "terminal": False, "at": "2026-01-02T03:04:05Z", "attempt": None}
    return event("status", data | {"region": None, "reason": None}, position)


STEP = {"steps": 4, "attempt": 1, "eta_seconds": None, "at": "2026-01-02T03:04:05Z"}
STREAM = {"Content-Type": "text/event-stream"}
QUICK = "retry: 0\n\n:\n\n"


def test_events_resume_where_a_connection_was_lost(script, client):
    first = QUICK + status("queued", "0.0.0") + event("mood", {"good": 1}) + "event: progress\nda"
    second = status("processing", "1.2.0") + event("progress", STEP | {"step": 2}, "1.2.2")
    third = event("completed", job_of("succeeded"), "1.4.0") + status("never")
    script.answers = [
        UNAVAILABLE,
        (200, STREAM | {"Content-Length": 9999}, first.encode()),
        "cut",
        (200, STREAM, second.replace("\n", "\r\n").encode()),
        (200, STREAM, third.replace("\n", "\r").encode()),
    ]
    script.server.RequestHandlerClass.timeout = 0.2
    seen = list(client.events("j1"))
    names = [(one.name, one.id) for one in seen]
    assert names == [
        ("status", "0.0.0"),
        ("mood", None),
        ("status", "1.2.0"),
        ("progress", "1.2.2"),
        ("completed", "1.4.0"),
    ]
    assert seen[3].step == 2
    assert seen[4].job.state == "succeeded"
    sent_ids = [headers["Last-Event-ID"] for _, _, headers, _ in script.seen]
    assert sent_ids == [None, None, "0.0.0", "0.0.0", "1.2.2"]


def test_there_are_no_events_after_the_end(script, client):
    script.answers = [(204, {}, b"")]
    assert list(client.events("j1", "1.4.0")) == []
    assert script.seen[0][2]["Last-Event-ID"] == "1.4.0"


def test_events_end_after_a_long_outage(script, client, monkeypatch):
    monkeypatch.setattr(events, "OUTAGE_S", 0.3)
    monkeypatch.setattr(events, "RETRY_S", 0.0)
    script.answers = [UNAVAILABLE]
    with pytest.raises(Unreachable, match="Down"):
        list(client.events("j1"))
    assert len(script.seen) > 1


@pytest.mark.parametrize("data", ["{", "[]", "x" * events.MAX_EVENT_BYTES])
def test_an_invalid_stream_ends_the_iteration(script, client, data):
    script.answers = [(200, STREAM, f"event: status\ndata: {data}\n\n".encode())]
    with pytest.raises(UnexpectedResponse):
        list(client.events("j1"))


def test_events_of_a_real_job_up_to_its_end(real, photo):
    job = real.submit(photo, model="noop")
    following = real.events(job.id)
    first = next(following)
    assert (first.name, first.state) == ("status", "queued")
    real.cancel(job.id)
    *_, last = following
    assert isinstance(last, CompletedEvent)
    assert (last.job.id, last.job.state) == (job.id, "canceled")
    assert list(real.events(job.id, last.id)) == []
