"""What must not reach a receiver, and who may keep whom waiting: real worker, real receivers."""

import contextlib
import json
import time

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.api.application import create_app
from app.broker import keys as broker_keys
from app.domain.webhooks import OWNER_LIMIT, secret_for
from app.store import keys
from app.store.job import attempts, jobs
from tests.support import calls, make, services
from tests.support.hooks import create, end_job, listed
from tests.support.receiver import Receiver

pytestmark = pytest.mark.timeout(120)

NEW_KEY = "3yIvR0pSxq1jV7mZt9cKbWuE5hLd2gAo"


@pytest.fixture
def open_api(change, api_key, receiver):
    """An API that lets its callers name the test's receiver."""
    app = create_app(change(outbound_allow=receiver.address))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    yield client
    app.extensions["services"].close()


def test_an_owner_whose_receivers_all_hang_delays_nobody_else(
    store, caller, other, start_worker, start_loop
):
    """Sixteen hanging receivers of one owner delayed another tenant's webhook to 27 s."""
    with contextlib.ExitStack() as running:
        hanging = [Receiver() for _ in range(16)]
        for one in hanging:
            running.callback(one.close)
            one.answers["/"] = [(0, {})]
        start_worker(allow=",".join(one.address for one in (*hanging, other)))
        loop = start_loop()
        for one in hanging:
            for _ in range(4):
                end_job(store, caller, webhook_url=one.url("/"))
        loop.kick()
        services.wait_until(lambda: sum(len(one.requests["/"]) for one in hanging) == OWNER_LIMIT)
        tenant = make.owner(store)
        took = []
        for n in range(5):
            began = time.monotonic()
            end_job(store, tenant, loop, webhook_url=other.url(f"/{n}"))
            [(_, _, arrived)] = other.wait(f"/{n}")
            took.append(arrived - began)
        print(f"another tenant's webhook: {max(took):.3f} s at most")
        assert max(took) < 3, "a second without other load on this machine"
        assert sum(len(one.requests["/"]) for one in hanging) == OWNER_LIMIT


def test_after_a_delete_no_delivery_shows_the_address_that_the_job_named(
    open_api, store, caller, receiver
):
    hook = create(open_api, receiver.url("/all"))
    url = receiver.url("/hook?token=hunter2")
    job_id = end_job(store, caller, webhook_url=url)
    assert {one["url"] for one in listed(open_api)} == {url, hook["url"]}
    assert open_api.delete(f"/v1/jobs/{job_id}").status_code == 204
    [left] = listed(open_api)
    assert (left["url"], left["webhook_id"]) == (hook["url"], hook["id"])
    assert (left["state"], left["last_error"]) == ("failed", "job_deleted")
    with store.autocommit() as conn:
        rows = conn.execute(text("SELECT jobs::text FROM jobs")).scalars().all()
        rows += conn.execute(text("SELECT d::text FROM webhook_deliveries AS d")).scalars().all()
    assert "hunter2" not in str(rows)


def test_a_job_deleted_while_it_waits_is_not_announced_with_its_texts(
    open_api, photo, receiver, start_worker, start_loop
):
    start_worker()
    loop = start_loop()
    for n in range(5):
        url = receiver.url(f"/{n}")
        job = calls.submit(open_api, photo, prompt="a secret", webhook_url=url).get_json()
        open_api.delete(f"/v1/jobs/{job['id']}")
        loop.kick()
    time.sleep(1.5)
    assert not any(receiver.requests[f"/{n}"] for n in range(5))


@pytest.mark.parametrize("how", ["deleted", "retention is over"])
def test_the_end_of_a_job_that_is_gone_is_announced_without_its_content(
    open_api, store, caller, receiver, client, start_worker, start_loop, how
):
    client.set(broker_keys.SWEEP, 1)  # once the sweeper has come, nothing is announced at all
    url = receiver.url("/hook")
    secrets = {"prompt": "a secret", "labels": {"order": "hunter2"}, "webhook_url": url}
    job_id = make.submit(store, caller, **secrets)
    with store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["token"])
        make.begin(tx, placed.job_id, placed.fence)
    if how == "deleted":
        assert open_api.delete(f"/v1/jobs/{job_id}").status_code == 202
        with store.autocommit() as conn:
            assert attempts.stop(conn, placed.job_id, placed.fence, lease_token=make.LEASE)
        state = "canceled"
    else:
        with store.autocommit() as conn:
            key = "outputs/clip.mp4"
            assert attempts.finish(
                conn, placed.job_id, placed.fence, key, 3, lease_token=make.LEASE
            )
        make.backdate(store, job_id, "expires_at")
        state = "succeeded"
    start_worker()
    start_loop()
    [(_, body, _)] = receiver.wait("/hook")
    message = json.loads(body)
    job = message["data"]["job"]
    assert (message["type"], job["id"], job["state"]) == (f"job.{state}", str(job_id), state)
    assert (job["prompt"], job["metadata"], job["output"]) == ("", {}, None)
    assert job["prompt_understood"] is None, "it quotes the prompt"
    assert b"a secret" not in body and b"hunter2" not in body and b"/hook" not in body


def test_nothing_is_sent_for_a_revoked_key(store, receiver, start_worker, start_loop):
    """Its messages would hold fresh links for whoever has registered an address with it."""
    with store.begin() as tx:
        owner, _ = keys.create(tx, "leaked")
    job_id = make.submit(store, owner, webhook_url=receiver.url("/hook"))
    with store.begin() as tx:
        keys.revoke(tx, owner)
    with store.begin() as tx:
        jobs.cancel(tx, job_id, owner_id=owner)
    start_worker()
    start_loop()

    def given_up():
        with store.autocommit() as conn:
            query = "SELECT last_error FROM webhook_deliveries WHERE given_up_at IS NOT NULL"
            return conn.execute(text(query)).scalars().all() == ["key_revoked"]

    services.wait_until(given_up)
    assert not receiver.requests["/hook"]


def test_while_the_secret_key_is_replaced_both_secrets_verify(
    settings, store, caller, receiver, start_worker, start_loop
):
    start_worker(secret_key=NEW_KEY, previous_secret_key=settings.secret_key)
    loop = start_loop()
    end_job(store, caller, loop, webhook_url=receiver.url("/hook"))
    [(headers, body, _)] = receiver.wait("/hook")
    for secret_key in (NEW_KEY, settings.secret_key):
        assert Webhook(secret_for(secret_key, caller)).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_for("another-secret-key-of-these-tests-alone", caller)).verify(body, headers)
    assert headers["webhook-signature"].count("v1,") == 2
