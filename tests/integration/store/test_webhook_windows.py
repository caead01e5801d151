"""Windows held open in the webhooks' tables: an endpoint goes away while its owner's jobs end."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from app.store.job import attempts
from app.store.webhooks import deliveries, endpoints
from app.store.webhooks.endpoints import Disabled
from tests.support import make
from tests.support.services import wait_until

URL = "https://hooks.example.com/all"


@pytest.fixture
def owner(store):
    return make.owner(store)


@pytest.fixture
def hook(store, owner):
    with store.begin() as tx:
        return endpoints.add(tx, owner, URL, ["job.succeeded"])


@pytest.fixture
def begun(store, owner, hook):
    """A job that is being rendered."""
    make.submit(store, owner)
    with store.begin() as tx:
        [one] = make.place(tx, "noop", "us-east", "us-east", ["t"])
        make.begin(tx, one.job_id, one.fence)
    return one


def meanwhile(store, first, second) -> object:
    """`first(tx)` in a transaction that commits once `second(tx)` waits for it, or has ended.

    Returns what `second` returned.
    """

    def run() -> object:
        with store.begin() as tx:
            return second(tx)

    with ThreadPoolExecutor(1) as threads, store.begin() as tx:
        first(tx)
        later = threads.submit(run)
        wait_until(lambda: later.done() or blocked(store), timeout_s=10)
        tx.commit()
        return later.result(10)


def blocked(store) -> bool:
    with store.autocommit() as conn:
        return conn.execute(
            text(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE"
                " datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0)"
            )
        ).scalar_one()


def finish(one):
    return lambda tx: attempts.finish(
        tx, one.job_id, one.fence, "outputs/x.mp4", 1, lease_token=make.LEASE
    )


def test_a_job_ends_although_an_endpoint_is_removed_meanwhile(store, owner, hook, begun):
    assert meanwhile(store, lambda tx: endpoints.remove(tx, hook.id, owner_id=owner), finish(begun))
    assert make.read(store, begun.job_id).state == "succeeded"


def test_a_job_that_ends_owes_nothing_to_an_endpoint_that_is_disabled_meanwhile(
    store, owner, hook, begun
):
    assert meanwhile(
        store, lambda tx: endpoints.disable(tx, hook.id, Disabled.OWNER), finish(begun)
    )
    with store.begin() as tx:
        assert deliveries.lease_due(tx, limit=9) == []


def test_a_redelivery_does_not_reach_an_endpoint_that_is_disabled_meanwhile(
    store, owner, hook, begun
):
    with store.begin() as tx:
        finish(begun)(tx)
        [delivery] = deliveries.page(tx, owner, limit=9)
    again = meanwhile(
        store,
        lambda tx: endpoints.disable(tx, hook.id, Disabled.OWNER),
        lambda tx: deliveries.redeliver(tx, delivery.id, owner_id=owner),
    )
    assert again is None
    with store.begin() as tx:
        assert deliveries.lease_due(tx, limit=9) == []


def test_a_test_event_does_not_reach_an_endpoint_that_is_disabled_meanwhile(store, hook):
    sent = meanwhile(
        store,
        lambda tx: endpoints.disable(tx, hook.id, Disabled.OWNER),
        lambda tx: endpoints.add_test(tx, hook),
    )
    assert sent is None


def test_a_test_event_to_an_endpoint_that_is_removed_meanwhile_is_no_error(store, owner, hook):
    sent = meanwhile(
        store,
        lambda tx: endpoints.remove(tx, hook.id, owner_id=owner),
        lambda tx: endpoints.add_test(tx, hook),
    )
    assert sent is None


def test_a_secret_is_rotated_once_by_two_at_once(store, hook):
    def rotate(tx):
        return endpoints.rotate(tx, hook, endpoints.endpoints, grace_s=60)

    assert meanwhile(store, rotate, rotate) is None
    with store.autocommit() as conn:
        assert endpoints.get(conn, hook.id, owner_id=hook.owner_id).webhook_secret_version == (
            hook.webhook_secret_version + 1
        )
