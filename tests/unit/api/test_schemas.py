"""The API's requests and responses, without a server."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.models import base
from app.api.models.base import Invalid
from app.api.models.job import PageQuery
from app.api.models.job_request import JobRequest, JsonJobRequest
from app.public.links import Links
from app.public.present import present_job
from stillmotion.states import JobState

ID = UUID("01a20a6f-5c2e-722e-a97c-126cdd89e6fb")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Signer:
    """Signs like an object store."""

    def signed_url(self, key, *, expires_s, filename, content_type):
        return f"https://objects/{key}?{expires_s}&{filename}&{content_type}"


LINKS = Links("https://api.example", Signer(), 60, SimpleNamespace(now=lambda: datetime.now(UTC)))


def dump_job(row, links, **more):
    """A job as parsed JSON."""
    return present_job(row, links, **more).model_dump(mode="json")


def row(**changes):
    values = {
        "id": ID,
        "state": "queued",
        "created_at": NOON,
        "started_at": None,
        "finished_at": None,
        "deadline": None,
        "profile": "noop",
        "prompt": "wind",
        "negative_prompt": "",
        "seed": 1,
        "frames": 8,
        "motion": 1.0,
        "loop": False,
        "fps": 8,
        "size": 64,
        "width": 64,
        "height": 48,
        "steps": 4,
        "priority": 1,
        "home_region": "us-east",
        "policy": "ring",
        "allowed_regions": None,
        "region": None,
        "step": 0,
        "error_code": None,
        "error_detail": None,
        "output_key": None,
        "output_bytes": None,
        "metadata": {},
        "webhook_url": None,
        "webhook_events": None,
        "cost": 1.0,
        "predicted_s": None,
        "retention_s": 60,
        "expires_at": None,
        "purged_at": None,
    }
    return SimpleNamespace(**values | changes)


def test_every_state_says_whether_it_is_terminal():
    shown = {state: dump_job(row(state=state.value), LINKS)["terminal"] for state in JobState}
    ends = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED}
    assert {state for state, terminal in shown.items() if terminal} == ends


def test_times_are_utc_whatever_zone_the_database_answers_in():
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5)))
    assert dump_job(row(created_at=elsewhere), LINKS)["created_at"] == "2030-01-01T12:00:00Z"


@pytest.mark.parametrize(
    ("state", "known", "stored", "shown"),
    [
        ("queued", None, 3, 0),
        ("starting", 2, 3, 0),
        ("processing", None, 2, 2),
        ("processing", 3, 2, 3),
        ("processing", 1, 2, 2),
        ("processing", 99, 2, 4),
        ("succeeded", None, 2, 4),
        ("failed", None, 2, 2),
    ],
)
def test_the_step_never_goes_back_nor_beyond_the_last(state, known, stored, shown):
    job = dump_job(row(state=state, step=stored), LINKS, step=known)
    assert job["progress"] == {"step": shown, "steps": 4}


def test_a_clip_is_shown_with_a_signed_link_named_after_the_job():
    job = dump_job(row(state="succeeded", output_key="outputs/a.mp4", output_bytes=9), LINKS)
    output = job["output"]
    assert output["url"] == f"https://objects/outputs/a.mp4?60&{ID}.mp4&video/mp4"
    assert (output["content_type"], output["size_bytes"]) == ("video/mp4", 9)
    left = datetime.fromisoformat(output["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=55) < left <= timedelta(seconds=60)


def test_a_requeued_job_is_in_no_region():
    assert dump_job(row(region="eu-west"), LINKS)["region"]["current"] is None
    running = dump_job(row(state="processing", region="eu-west"), LINKS)
    assert running["region"]["current"] == "eu-west"


def test_attempts_are_shown_only_on_request():
    assert "attempts" not in dump_job(row(), LINKS)
    assert dump_job(row(), LINKS, attempts=[])["attempts"] == []


def test_links_are_absolute_and_do_not_double_the_slash():
    urls = dump_job(row(), LINKS)["urls"]
    assert urls == {
        "self": f"https://api.example/v1/jobs/{ID}",
        "cancel": f"https://api.example/v1/jobs/{ID}/cancel",
        "video": f"https://api.example/v1/jobs/{ID}/video",
        "events": f"https://api.example/v1/jobs/{ID}/events",
        "timeline": f"https://api.example/v1/jobs/{ID}/timeline",
    }


def test_strings_are_numbers_in_a_form_and_not_in_json():
    assert base.parse_strings(JobRequest, {"frames": "16", "policy": "any"}).frames == 16
    with pytest.raises(Invalid) as caught:
        base.parse_json(JsonJobRequest, b'{"image": "x", "frames": "16"}')
    assert (caught.value.code, caught.value.pointer) == ("invalid_field", "/frames")


def test_an_unknown_field_is_reported_first():
    with pytest.raises(Invalid) as caught:
        base.parse_json(JsonJobRequest, b'{"frames": "x", "zzz": 1}')
    assert caught.value.code == "unknown_field"
    assert {each.code for each in caught.value.errors} == {
        "unknown_field",
        "invalid_field",
    }


def test_the_number_of_reported_errors_is_limited():
    body = "{" + ",".join(f'"f{n}": 1' for n in range(100)) + "}"
    with pytest.raises(Invalid) as caught:
        base.parse_json(JsonJobRequest, body.encode())
    assert len(caught.value.errors) == base.MAX_FIELD_ERRORS


@given(st.binary(max_size=200))
def test_no_bytes_break_the_json_parser(body):
    try:
        order = base.parse_json(JsonJobRequest, body)
    except Invalid as error:
        assert error.status in (400, 422)
    else:
        assert order == JsonJobRequest(), "random bytes this short contain no field"


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_no_query_breaks_the_parser(values):
    try:
        page = base.parse_strings(PageQuery, values)
    except Invalid as error:
        assert error.status == 422
        assert all(each.pointer.startswith("/") for each in error.errors)
    else:
        assert 1 <= page.limit <= 100


@given(st.text(max_size=1000))
def test_a_prompt_is_accepted_unchanged_unless_it_has_control_characters(prompt):
    control = any(ord(c) < 32 and c not in "\t\n\r" for c in prompt) or "\x7f" in prompt
    try:
        assert base.parse_strings(JobRequest, {"prompt": prompt}).prompt == prompt
        assert not control
    except Invalid as error:
        assert control
        assert error.code == "invalid_field"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ("{" + ",".join(f'"f{n}": 1' for n in range(101)) + "}", ""),
        ('{"image": "x", "metadata": {' + ",".join(f'"{n}": ""' for n in range(101)) + "}}",
         "/metadata"),
        ('{"image": "x", "allowed_regions": [' + ",".join(["1"] * 101) + "]}", "/allowed_regions"),
        ('{"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}', "/a/a/a/a/a/a/a/a"),
        ('{"image": "x", "seed": 1, "seed": 1}', "/seed"),
    ],
    ids=["fields", "labels", "regions", "depth", "twice"],
)  # fmt: skip
def test_a_shape_that_no_request_has_is_one_fault(body, pointer):
    with pytest.raises(Invalid) as caught:
        base.parse_json(JsonJobRequest, body.encode())
    [fault] = caught.value.errors
    assert (fault.code, fault.pointer) == ("invalid_field", pointer)


def test_a_long_number_is_no_work_and_no_crash():
    with pytest.raises(Invalid) as caught:
        base.parse_json(JsonJobRequest, b'{"image": "x", "seed": ' + b"9" * 200_000 + b"}")
    assert caught.value.status in (400, 422)
