"""The Python client against a real server, which may lose an answer."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from stillmotion import Rejected, Unreachable, requests
from tests.support import calls
from tests.support.proxy import Proxy


def test_a_real_server_accepts_everything_the_client_sends(real, photo, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    job = real.submit(
        path,
        "naïve wind",
        model="noop",
        seed=2**63 - 1,
        frames=16,
        loop=True,
        allowed_regions=["us-east", "us-west"],
        metadata={"a": "ключ"},
        webhook_url=None,
    )
    assert job.prompt == "naïve wind"
    assert (job.seed, job.loop) == (2**63 - 1, True)
    assert job.region.allowed == ["us-east", "us-west"]
    assert job.metadata == {"a": "ключ"}
    assert real.get(job.id).queue.position == 0
    others = [real.submit(image, model="noop").id for image in (str(path), io.BytesIO(photo))]
    sent = real.upload(photo)
    others.append(real.submit(sent, "again", loop=True, model="noop", metadata={"b": "1"}).id)
    assert [one.id for one in real.list(state="queued")] == [*reversed(others), job.id]
    assert [one.id for one in real.list(metadata={"a": "ключ"})] == [job.id]
    an_hour = timedelta(hours=1)
    assert list(real.list(created_after=datetime.now(UTC) + an_hour)) == []
    assert len(list(real.list(created_before=datetime.now(UTC) + an_hour))) == 4
    waited = real.submit(photo, model="noop", wait_s=1, idempotency_key="mine")
    assert real.submit(photo, model="noop", idempotency_key="mine").id == waited.id
    assert real.cancel(job.id).state == "canceled"
    with pytest.raises(Rejected, match="has ended"):
        real.cancel(job.id)
    assert [entry.event for entry in real.timeline(job.id)] == ["queued", "canceled"]
    real.delete(job.id)
    with pytest.raises(Rejected) as caught:
        real.get(job.id)
    assert (caught.value.status, caught.value.code) == (410, "job_deleted")


def test_a_refusal_lists_every_error_and_the_request_id(real, photo):
    with pytest.raises(Rejected) as caught:
        real.submit(photo, "x" * 2000, motion=9, idempotency_key="mine")
    assert caught.value.code == "prompt_too_long"
    assert caught.value.pointer == "/prompt"
    assert [error.pointer for error in caught.value.errors] == ["/prompt", "/motion"]
    assert caught.value.instance.startswith("urn:uuid:")
    with pytest.raises(Rejected) as caught:
        real.submit("https://127.0.0.1/photo.jpg")
    assert caught.value.pointer == "/image"


def test_pages_are_fetched_lazily(real, photo, monkeypatch):
    made = [real.submit(photo, model="noop").id for _ in range(5)]
    monkeypatch.setattr(requests, "PAGE", 2)
    assert [job.id for job in real.list()] == made[::-1]
    assert [job.id for job in real.list(limit=3)] == made[:1:-1]
    assert list(real.list(limit=0)) == []


def test_a_dry_run_the_models_the_regions_and_the_usage(real, photo):
    assert real.estimate(photo, model="noop").region.predicted == "us-east"
    assert list(real.list()) == []
    real.submit(photo, model="noop")
    assert [model.id for model in real.models()] == ["motion-small", "noop"]
    assert {region.id for region in real.regions().data} == {"us-east", "us-west", "eu-west"}
    today = datetime.now(UTC).date()
    [day] = real.usage(start=today - timedelta(days=1), end=today).data
    assert (day.model, day.jobs) == ("noop", 1)


def test_webhooks_from_creation_to_removal(real):
    made = real.create_webhook("https://example.com/hook", ["job.failed"])
    assert made.secret.startswith("whsec_")
    assert [hook.id for hook in real.webhooks()] == [made.id]
    assert real.update_webhook(made.id, events=["job.succeeded"]).events == ["job.succeeded"]
    assert not real.update_webhook(made.id, enabled=False).enabled
    assert real.update_webhook(made.id, enabled=True).enabled
    assert real.rotate_secret(made.id, grace_seconds=60).secret != made.secret
    assert real.rotate_secret().secret.startswith("whsec_")
    sent = real.test_webhook(made.id)
    assert [one.id for one in real.deliveries(webhook_id=made.id, state="pending")] == [sent.id]
    assert list(real.deliveries(after=sent.id)) == []
    assert real.redeliver(sent.id).event == "webhook.test"
    real.delete_webhook(made.id)
    assert real.webhooks() == []


@pytest.fixture
def lossy(server, api_key, make_client):
    """A client behind a proxy that can lose a response, and the proxy."""
    host, _, port = server.removeprefix("http://").partition(":")
    proxy = Proxy((host, int(port)))
    with make_client(f"http://127.0.0.1:{proxy.port}", api_key, timeout_s=10) as client:
        yield client, proxy
    proxy.close()


def test_a_call_whose_response_is_lost_is_done_once(lossy, photo, store):
    client, proxy = lossy
    proxy.lose_answer_to(b"POST /v1/jobs")
    job = client.submit(photo, model="noop")
    assert calls.rows_in(store) == 1
    proxy.lose_answer_to(b"/cancel")
    assert client.cancel(job.id).state == "canceled"
    proxy.lose_answer_to(b"DELETE /v1/jobs")
    client.delete(job.id)
    hook = client.create_webhook("https://example.com/hook")
    proxy.lose_answer_to(b"DELETE /v1/webhooks")
    client.delete_webhook(hook.id)
    assert proxy.cuts == 4
    proxy.lose_answer_to(b"POST /v1/webhooks")
    with pytest.raises(Unreachable):
        client.create_webhook("https://example.com/hook")
    assert calls.rows_in(store, "webhook_endpoints") == 1
