"""`stillmotion webhooks`, against a real server."""

import json
from uuid import uuid4

import pytest

from app.store import keys
from app.store.job import jobs
from stillmotion.cli import ExitStatus, run
from tests.support import make

pytestmark = pytest.mark.usefixtures("deployed")

HOOK = "https://example.com/hook"


@pytest.fixture
def call(capsys):
    """Run `stillmotion webhooks ...`, check that it succeeds, and return its output."""

    def run_it(*arguments):
        assert run(["webhooks", *arguments]) == ExitStatus.OK, capsys.readouterr().err
        return capsys.readouterr().out

    return run_it


def test_a_webhook_from_creation_to_removal(call, capsys, store, api_key):
    assert run(["webhooks", "create", HOOK, "--event", "job.canceled"]) == ExitStatus.OK
    made = capsys.readouterr()
    assert made.out.startswith("whsec_")
    assert made.out.count("\n") == 1
    hook_id = made.err.removeprefix("id ").strip()
    assert call("list") == f"{hook_id}  on       {HOOK}  job.canceled\n"
    assert json.loads(call("list", "--json"))["id"] == hook_id

    off = json.loads(call("update", hook_id, "--disable", "--json"))
    assert (off["enabled"], off["disabled_reason"]) == (False, "owner")
    assert call("update", hook_id, "--enable", "--event", "job.canceled") == ""

    rotated = json.loads(call("rotate", hook_id, "--grace", "60", "--json"))
    assert rotated["secret"] != made.out.strip()
    assert rotated["previous_secret_until"] is not None
    assert call("rotate", "--grace", "0").startswith("whsec_")

    tested = call("test", hook_id)
    assert f"pending    0  -  webhook.test  {HOOK}" in tested
    with store.begin() as tx:
        owner = keys.find(tx, api_key).id
        job = make.new_job(owner)
        jobs.add(tx, job)
        jobs.cancel(tx, job.id, owner_id=owner)
    shown = call("deliveries", "--job", str(job.id), "--state", "pending", "--json")
    delivery = json.loads(shown)
    assert (delivery["event"], delivery["webhook_id"]) == ("job.canceled", hook_id)
    assert len(call("deliveries", "--webhook", hook_id).splitlines()) == 2
    assert delivery["id"] in call("deliveries", "--limit", "1")
    assert len(call("deliveries", "--after", delivery["id"]).splitlines()) == 1
    assert call("redeliver", delivery["id"]).startswith(delivery["id"])

    assert call("delete", hook_id) == ""
    assert call("list") == ""


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["create", "http://example.com/"], ExitStatus.REJECTED, "url_not_allowed"),
        (["create", HOOK, "--event", "job.begun"], ExitStatus.USAGE, "--event"),
        (["delete", str(uuid4())], ExitStatus.REJECTED, "webhook_not_found"),
        (["rotate", "../jobs"], ExitStatus.REJECTED, "not_found"),
        (["test", str(uuid4())], ExitStatus.REJECTED, "webhook_not_found"),
        (["redeliver", "x"], ExitStatus.REJECTED, "delivery_not_found"),
        (["deliveries", "--job", "x"], ExitStatus.REJECTED, "invalid_field"),
    ],
)
def test_a_failure_is_one_sentence(capsys, arguments, status, sentence):
    assert run(["webhooks", *arguments]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("stillmotion: ")
    assert printed.err.count("\n") == 1
    assert sentence in printed.err
