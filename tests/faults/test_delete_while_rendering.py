"""DELETE of a job during its render, and the content of its webhook."""

import json

import httpx
import pytest

from app.store import keys
from tests.support import services
from tests.support.fleet import ends


@pytest.fixture
def client(server, store):
    """A client of a real API, and the id of its key."""
    with store.begin() as tx:
        owner, key = keys.create(tx, "test")[:2]
    with httpx.Client(
        base_url=server, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
    ) as client:
        yield client, owner


def test_the_webhook_says_canceled_once_and_carries_no_clip(fleet, client, receiver):
    client, owner = client
    fleet.owner = owner
    fleet.dispatcher()
    fleet.cpu_worker(outbound_allow=receiver.address)
    worker = fleet.worker(noop_step_s=0.5).wait_ready()
    job_id = fleet.submit(steps=60, prompt="a secret", webhook_url=receiver.url("/hook"))
    fleet.wait(job_id, "processing")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 202
    fleet.wait(job_id, "canceled", timeout_s=15)
    assert client.get(f"/v1/jobs/{job_id}").status_code == 410
    [(_, body, _)] = receiver.wait("/hook", timeout_s=40)
    event = json.loads(body)
    assert event["type"] == "job.canceled"
    job = event["data"]["job"]
    assert (job["id"], job["state"]) == (str(job_id), "canceled")
    assert not job.get("output")
    assert ends(job_id, worker, last="canceled") == ["canceled"]
    with pytest.raises(TimeoutError):
        services.wait_until(lambda: len(receiver.requests["/hook"]) > 1, timeout_s=2)
