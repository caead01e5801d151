"""Webhook rules: signatures, the schedule, and the effect of each response."""

import json
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from time import time
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.domain.webhooks import (
    MAX_BODY_BYTES,
    SCHEDULE_S,
    Outcome,
    Verdict,
    decide,
    encode,
    encode_test,
    headers,
    secret_for,
)
from stillmotion.backoff import RETRY_AFTER_LIMIT_S, retry_after_s
from stillmotion.signatures import InvalidWebhook, WebhookEvent, sign, verify
from stillmotion.states import TERMINAL

KEY = "k" * 32
OWNER = uuid4()
draws = st.floats(0, 1, exclude_max=True)
failures = st.one_of(st.none(), st.integers(100, 199), st.integers(300, 599)).filter(
    lambda status: status != 410
)


@given(st.dictionaries(st.text(), st.text()), st.uuids(), st.text(min_size=1))
def test_the_reference_library_verifies_what_is_sent(job, owner, secret_key):
    secret = secret_for(secret_key, owner)
    body = encode("job.succeeded", datetime.now(UTC), job)
    sent = headers([secret], str(uuid4()), int(time()), body)
    assert Webhook(secret).verify(body, sent)["data"]["job"] == job


@given(st.text(min_size=1, max_size=50).filter(lambda text: "." not in text), st.text())
def test_signatures_are_the_reference_librarys(message_id, text):
    secret = secret_for(KEY, OWNER)
    when = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    theirs = Webhook(secret).sign(message_id, when, text)
    assert sign(secret, message_id, int(when.timestamp()), text.encode()) == theirs


@given(st.text(min_size=1, max_size=50).filter(lambda text: "." not in text), st.text())
def test_what_the_reference_library_signs_is_verified(message_id, text):
    secret, when = secret_for(KEY, OWNER), datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    sent = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(when.timestamp())),
        "webhook-signature": f"v1,AAAA {Webhook(secret).sign(message_id, when, text)} v2,x",
    }
    verify([secret_for(KEY, uuid4()), secret], sent, text.encode(), now=when.timestamp() + 299)


@pytest.mark.parametrize(
    ("changes", "body", "later_s", "said"),
    [
        ({}, b"{} ", 0, "No signature"),
        ({"webhook-id": "2"}, b"{}", 0, "No signature"),
        ({"webhook-timestamp": "1700000001"}, b"{}", 0, "No signature"),
        ({"webhook-signature": ""}, b"{}", 0, "No signature"),
        ({"webhook-signature": "v1,é"}, b"{}", 0, "No signature"),
        ({"webhook-signature": "v1,\udcff"}, b"{}", 0, "No signature"),
        ({"webhook-id": "é"}, b"{}", 0, "No signature"),
        ({"webhook-id": "\ud800"}, b"{}", 0, "No signature"),
        ({"webhook-timestamp": "\udcff"}, b"{}", 0, "webhook-timestamp"),
        ({}, b"{}", 301, "too old"),
        ({}, b"{}", -301, "too old"),
        ({"webhook-timestamp": "soon"}, b"{}", 0, "webhook-timestamp"),
        ({"webhook-timestamp": "9" * 5000}, b"{}", 0, "webhook-timestamp"),
        ({"webhook-signature": None}, b"{}", 0, "webhook-signature"),
    ],
)
def test_a_wrong_or_old_signature_is_not_verified(changes, body, later_s, said):
    now = 1_700_000_000
    secret = secret_for(KEY, OWNER)
    sent = headers([secret], "1", now, b"{}") | changes
    sent = {name: value for name, value in sent.items() if value is not None}
    with pytest.raises(InvalidWebhook, match=said):
        verify([secret], sent, body, now=now + later_s)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_é", "whsec_a", ""])
def test_an_invalid_secret_verifies_nothing(secret):
    now = 1_700_000_000
    sent = headers([secret_for(KEY, OWNER)], "1", now, b"{}")
    with pytest.raises(InvalidWebhook, match="A secret must be"):
        verify([secret], sent, b"{}", now=now)


def test_a_changed_body_time_or_owner_is_refused():
    body = encode("job.failed", datetime.now(UTC), {"id": "1"})
    sent = headers([secret_for(KEY, OWNER)], "1", int(time()), body)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_for(KEY, OWNER)).verify(body + b" ", sent)
    with pytest.raises(WebhookVerificationError):
        later = {"webhook-timestamp": str(int(time()) + 1)}
        Webhook(secret_for(KEY, OWNER)).verify(body, sent | later)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_for(KEY, uuid4())).verify(body, sent)


def test_a_secret_belongs_to_one_owner_and_one_deployment():
    other_owner = uuid4()
    secrets = {
        secret_for(KEY, OWNER),
        secret_for(KEY, other_owner),
        secret_for("l" * 32, OWNER),
    }
    assert len(secrets) == 3
    assert secret_for(KEY, OWNER) in secrets


def test_during_a_rotation_either_secret_verifies_and_no_other():
    secrets = [secret_for(KEY, OWNER, version) for version in (3, 2)]
    body = encode("job.failed", datetime.now(UTC), {"id": "1"})
    sent = headers(secrets, "1", int(time()), body)
    assert len(sent["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        assert Webhook(secret).verify(body, sent)["type"] == "job.failed"
    for version in (1, 4):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret_for(KEY, OWNER, version)).verify(body, sent)


def test_every_end_of_a_job_has_an_event():
    assert {str(event) for event in WebhookEvent} == {f"job.{state}" for state in TERMINAL}


def test_a_test_event_names_its_webhook():
    assert json.loads(encode_test(datetime(2026, 1, 2, tzinfo=UTC), OWNER)) == {
        "type": "webhook.test",
        "timestamp": "2026-01-02T00:00:00Z",
        "data": {"webhook_id": str(OWNER)},
    }


def test_the_schedule_is_the_specifications():
    five_seconds, hour = 5, 3600
    assert SCHEDULE_S[:3] == (0, five_seconds, 300)
    assert sum(SCHEDULE_S) == pytest.approx(75.6 * hour, rel=0.001)
    assert len(SCHEDULE_S) == 10


@given(st.integers(200, 299), st.integers(1, 20), draws)
def test_only_a_2xx_is_a_delivery_on_any_try(status, tries, draw):
    assert decide(status, None, tries, draw) == Verdict(Outcome.DELIVERED)


@given(failures, st.integers(1, 9), draws)
def test_a_failed_try_waits_for_the_next_entry_plus_at_most_a_tenth(status, tries, draw):
    verdict = decide(status, None, tries, draw)
    assert verdict.outcome is Outcome.RETRY
    assert SCHEDULE_S[tries] <= verdict.delay_s <= SCHEDULE_S[tries] * 1.1


@given(failures, st.integers(10, 30), draws)
def test_the_tenth_failure_is_the_last(status, tries, draw):
    assert decide(status, 5.0, tries, draw).outcome is Outcome.GIVEN_UP


@given(st.integers(1, 30), draws)
def test_gone_ends_it_at_once(tries, draw):
    assert decide(410, 60.0, tries, draw).outcome is Outcome.GONE


@given(st.sampled_from([429, 502, 503, 504]), st.floats(0, 1e12), st.integers(1, 9), draws)
def test_a_throttling_receiver_can_only_lengthen_the_wait_by_at_most_a_day(
    status, asked_s, tries, draw
):
    delay_s = decide(status, asked_s, tries, draw).delay_s
    assert delay_s >= SCHEDULE_S[tries]
    assert delay_s >= min(asked_s, RETRY_AFTER_LIMIT_S)
    assert delay_s <= max(RETRY_AFTER_LIMIT_S, SCHEDULE_S[tries] * 1.1)


def test_retry_after_on_any_other_response_changes_nothing():
    assert decide(500, 7000.0, 1, 0.0) == decide(500, None, 1, 0.0)


def test_retry_after_is_read_in_both_of_its_forms():
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    in_two_minutes = format_datetime(now + timedelta(minutes=2), usegmt=True)
    assert retry_after_s("120", now.timestamp()) == 120
    assert retry_after_s(in_two_minutes, now.timestamp()) == 120
    assert retry_after_s(format_datetime(now - timedelta(days=1)), now.timestamp()) == 0


@given(st.one_of(st.none(), st.text(), st.integers().map(str)))
def test_no_retry_after_header_breaks_a_delivery(value):
    seconds = retry_after_s(value, 1.8e9)
    assert seconds is None or seconds >= 0


def test_the_body_has_the_jobs_end_time_in_utc():
    ended = datetime(2026, 1, 2, 5, 4, 5, 678000, tzinfo=timezone(timedelta(hours=2)))
    message = json.loads(encode("job.canceled", ended, {"id": "1"}))
    assert message == {
        "type": "job.canceled",
        "timestamp": "2026-01-02T03:04:05.678000Z",
        "data": {"job": {"id": "1"}, "truncated": []},
    }


@given(st.integers(0, 900))
def test_a_job_of_many_attempts_keeps_its_newest_within_the_size_limit(count):
    attempts = [{"fence": n, "region": "eu-west", "outcome": "not_begun"} for n in range(count)]
    body = encode("job.expired", datetime.now(UTC), {"attempts": attempts, "prompt": "é" * 1000})
    kept = json.loads(body)["data"]["job"]["attempts"]
    assert len(body) <= MAX_BODY_BYTES
    assert kept == attempts[count - len(kept) :]
    assert kept or not count


def test_the_longest_metadata_is_dropped_to_keep_the_size_limit():
    metadata = {f"{n:064}": "\N{GRINNING FACE}" * 512 for n in range(16)}
    job = {"id": "1", "attempts": [{"number": 1}], "metadata": metadata}
    body = encode("job.failed", datetime.now(UTC), job)
    assert len(body) <= MAX_BODY_BYTES
    assert json.loads(body)["data"] == {
        "job": {"id": "1", "attempts": []},
        "truncated": ["attempts", "metadata"],
    }
    assert "metadata" in job, "the caller's dict is unchanged"


def test_a_message_says_what_it_lacks():
    """A receiver that routes by metadata can tell a job without any from a job that lost it."""

    def truncated(**fields):
        data = json.loads(encode("job.failed", datetime.now(UTC), {"id": "1"} | fields))["data"]
        return data["truncated"]

    long = {"order": "x" * MAX_BODY_BYTES}
    attempts = [{"number": n, "hops": "x" * 1000} for n in range(40)]
    assert truncated(metadata={"order": "7"}, attempts=attempts[:3]) == []
    assert truncated(metadata={"order": "7"}, attempts=attempts) == ["attempts"]
    assert truncated(metadata=long, attempts=[]) == ["metadata"]
    assert truncated(metadata={}, prompt="x" * MAX_BODY_BYTES) == [], "nothing was left to cut"
