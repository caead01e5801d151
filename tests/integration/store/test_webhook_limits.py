"""How many webhook tries may be under way, by receiver and by owner."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.api.application import create_app
from app.domain.webhooks import OWNER_LIMIT, RECEIVER_LIMIT
from app.store import keys
from app.store.webhooks import deliveries
from tests.support import calls, make
from tests.support.hooks import create, end_job, update


@pytest.fixture
def owner(store):
    return make.owner(store)


@pytest.fixture
def other_owner(store):
    return make.owner(store)


def owe(store, owner, url, n=1, age_s=60):
    """Due deliveries of one owner."""
    job_id = make.submit(store, owner)
    with store.begin() as tx:
        tx.execute(
            text(
                "INSERT INTO webhook_deliveries (job_id, owner_id, event, url, next_at)"
                " SELECT :job, :owner, 'job.failed', :url, :at FROM generate_series(1, :n)"
            ),
            {
                "job": job_id,
                "owner": owner,
                "url": url,
                "n": n,
                "at": datetime.now(UTC) - timedelta(seconds=age_s),
            },
        )


def under_way(store):
    """Leases by (owner, host)."""
    with store.autocommit() as conn:
        rows = conn.execute(
            text(
                "SELECT owner_id, substring(url, '://([^/]*)'), count(*) FROM webhook_deliveries"
                " WHERE leased_until > now() GROUP BY 1, 2"
            )
        )
        return {(owner, host): n for owner, host, n in rows}


def lease(store, **limits):
    with store.autocommit() as conn:
        return deliveries.lease_due(conn, limit=256, **limits)


def end_one(store, owner):
    update(
        store,
        "UPDATE webhook_deliveries SET delivered_at = now(), leased_until = NULL WHERE id ="
        " (SELECT id FROM webhook_deliveries WHERE owner_id = :owner AND leased_until > now()"
        "  LIMIT 1)",
        owner=owner,
    )


def test_an_owner_with_many_receivers_has_few_tries_under_way(store, owner, other_owner):
    """Sixteen receivers of one owner took 64 threads; a worker has 32."""
    for n in range(16):
        owe(store, owner, f"https://{n}.example/", n=10)
    owe(store, other_owner, "https://quick.example/", age_s=1)
    assert len(lease(store)) == OWNER_LIMIT + 1
    assert (other_owner, "quick.example") in under_way(store)
    assert lease(store) == []
    end_one(store, owner)
    assert len(lease(store)) == 1


def test_a_key_has_its_own_limit_and_0_is_none(store):
    with store.begin() as tx:
        few = keys.create(tx, "few", webhooks_in_flight=2)[0]
        free = keys.create(tx, "free", webhooks_in_flight=0)[0]
        usual = keys.create(tx, "usual")[0]
    for each in (few, free, usual):
        for n in range(16):
            owe(store, each, f"https://{n}.{each}.example/")
    lease(store, per_owner=5)
    counted = {each: sum(1 for one, _ in under_way(store) if one == each) for each in (few, free)}
    assert counted == {few: 2, free: 16}
    assert sum(1 for one, _ in under_way(store) if one == usual) == 5
    lease(store, per_owner=0)
    assert sum(1 for one, _ in under_way(store) if one == usual) == 16


def test_at_a_shared_receiver_owners_take_turns(store, owner, other_owner):
    owe(store, owner, "https://shared.example/a", n=100, age_s=60)
    owe(store, other_owner, "https://shared.example/b", n=3, age_s=1)
    assert len(lease(store)) == RECEIVER_LIMIT
    both = {(owner, "shared.example"): 2, (other_owner, "shared.example"): 2}
    assert under_way(store) == both
    # The longer backlog is older, but who has fewer under way is next.
    end_one(store, other_owner)
    assert len(lease(store)) == 1
    assert under_way(store) == both


def test_a_worker_goes_on_with_its_owners_messages_within_both_limits(store, owner, other_owner):
    url = "https://shared.example/any"
    owe(store, owner, url, n=9)
    owe(store, other_owner, url)
    with store.autocommit() as conn:
        for limits in ({"each": 2}, {"each": 9, "per_owner": 3}):
            while deliveries.lease_next(conn, owner, url, **limits):
                pass
            assert under_way(store) == {(owner, "shared.example"): limits.get("per_owner", 2)}
        assert deliveries.lease_next(conn, other_owner, url, each=9)
        assert deliveries.lease_next(conn, other_owner, url, each=9) is None


SPELLINGS = [
    *("127.0.0.1:19801", "127.0.0.1:019801", "127.0.0.1:0019801", "127.0.0.1.:19801"),
    *("127.0.0.1.:000019801", "127.0.0.1:00000019801"),
]


def test_a_receiver_counts_once_however_it_is_spelled(change, store, api_key, caller):
    """Nineteen tries went to one receiver at a time instead of four."""
    app = create_app(change(outbound_allow="127.0.0.1:19801"))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    for n, address in enumerate(SPELLINGS):
        hook = create(client, f"http://{address}/{n}")
        assert hook["url"] == f"http://127.0.0.1:19801/{n}"
    twice = client.post("/v1/webhooks", json={"url": "HTTP://127.0.0.1.:0019801/0"})
    calls.assert_problem(twice, 409, "webhook_exists", "/url")
    for _ in range(3):
        end_job(store, caller)
    assert len(lease(store, per_owner=0)) == RECEIVER_LIMIT
    app.extensions["services"].close()


@pytest.mark.parametrize("given", ["https://EXAMPLE.com.:0443/hook", "https://example.com/hook"])
def test_an_address_that_a_job_names_counts_by_the_same_spelling(api, photo, given):
    job = calls.submit(api, photo, webhook_url=given).get_json()
    assert job["webhook_url"] == "https://example.com/hook"
