"""The storm checker finds every kind of violation, planted here one at a time."""

from importlib.resources import files

import pytest

from app.objects import LocalObjects
from scripts.benchmarks import fault_check
from scripts.benchmarks.fault_check import Verdict
from scripts.benchmarks.fault_clients import Ledger, Observed
from scripts.benchmarks.harness.webhook_log import Received

CLIP = files("workers.engines.noop").joinpath("noop.mp4").read_bytes()


def row(**changes):
    return {
        "state": "succeeded",
        "output_key": "outputs/a/1-b.mp4",
        "output_bytes": len(CLIP),
        "purged": False,
        "error_code": None,
        "may_wait": False,
        "successes": 1,
        "open_attempts": 0,
    } | changes


def lost_by(rows, **observed):
    verdict = Verdict()
    fault_check._check_observations(rows, Ledger(jobs={"a": Observed(**observed)}), verdict)
    return verdict.lost


def test_an_observation_that_agrees_with_the_row_is_fine():
    assert lost_by({"a": row()}, ended="succeeded") == []


@pytest.mark.parametrize(
    ("rows", "observed"),
    [
        ({}, {}),
        ({"a": row(state="failed")}, {"ended": "succeeded"}),
        ({"a": row()}, {"cancel_accepted": True}),
    ],
)
def test_an_observation_that_contradicts_the_row_counts_as_lost(rows, observed):
    assert len(lost_by(rows, **observed)) == 1


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, (0, 0, 0)),
        ({"state": "queued", "successes": 0}, (1, 0, 0)),
        ({"state": "queued", "successes": 0, "may_wait": True}, (0, 0, 0)),
        ({"state": "canceled"}, (1, 0, 0)),
        ({"successes": 2}, (0, 1, 0)),
        ({"open_attempts": 1}, (0, 0, 1)),
    ],
)
def test_rows_that_contradict_themselves_are_found(changes, found):
    verdict = Verdict()
    fault_check._check_rows({"a": row(**changes)}, verdict)
    assert (len(verdict.lost), len(verdict.doubled), len(verdict.leaked)) == found


@pytest.mark.parametrize(
    ("stored", "lost"), [(CLIP, 0), (None, 1), (CLIP[:-1], 1), (b"\0" * len(CLIP), 1)]
)
def test_a_clip_must_be_there_and_whole(tmp_path, stored, lost):
    objects = LocalObjects(tmp_path, ("a-secret-key-that-only-this-test-uses",), "http://127.0.0.1")
    if stored is not None:
        objects.put("outputs/a/1-b.mp4", stored, "video/mp4")
    verdict = Verdict()
    fault_check._check_clips({"a": row()}, objects, verdict)
    assert len(verdict.lost) == lost


def test_two_jobs_that_name_one_clip_are_doubled(tmp_path):
    objects = LocalObjects(tmp_path, ("a-secret-key-that-only-this-test-uses",), "http://127.0.0.1")
    objects.put("outputs/a/1-b.mp4", CLIP, "video/mp4")
    verdict = Verdict()
    fault_check._check_clips({"a": row(), "b": row()}, objects, verdict)
    assert len(verdict.doubled) == 1


def test_two_clips_in_one_file_are_not_one():
    assert fault_check.is_one_mp4(CLIP)
    assert not fault_check.is_one_mp4(CLIP + CLIP)


OWED = {"id": "m1", "job_id": "a", "event": "job.succeeded", "delivered": True}


def received_message(message_id="m1", state="succeeded", event=None):
    return Received(message_id, event or f"job.{state}", "a", state, 204, at=0.0)


@pytest.mark.parametrize(
    ("owed", "received", "found"),
    [
        ([OWED], [received_message()], (0, 0)),
        ([OWED], [received_message(), received_message()], (0, 0)),  # at least once, under one id
        ([], [], (1, 0)),
        ([OWED], [], (1, 0)),
        ([OWED], [received_message(), received_message("m2")], (0, 1)),
        ([OWED, OWED | {"id": "m2"}], [received_message()], (0, 1)),
        ([OWED], [received_message(state="canceled")], (1, 0)),
        ([OWED], [received_message(state="canceled", event="job.succeeded")], (1, 0)),
    ],
)
def test_webhooks_say_one_thing_under_one_id(owed, received, found):
    verdict = Verdict()
    fault_check._check_webhooks({"a": row()}, owed, received, verdict)
    assert (len(verdict.lost), len(verdict.doubled)) == found
