"""Create webhooks through the API and inspect their deliveries."""

from sqlalchemy import text

from app.domain.webhooks import TIMEOUT_S
from app.store.job import jobs
from tests.support import make, services


def create(client, url, **fields):
    answer = client.post("/v1/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return answer.get_json()


def end_job(store, caller, loop=None, **changes):
    """Submit and cancel a waiting job, the shortest way to an ended one."""
    job_id = make.submit(store, caller, **changes)
    with store.begin() as tx:
        jobs.cancel(tx, job_id, owner_id=caller)
    if loop is not None:
        loop.kick()
    return job_id


def listed(client, **query):
    return client.get("/v1/webhooks/deliveries", query_string=query).get_json()["data"]


def wait_state(client, state, count=1, **query):
    """The deliveries that match the query, once `count` of them are in that state."""
    services.wait_until(lambda: len(listed(client, state=state, **query)) == count)
    return listed(client, state=state, **query)


def update(store, sql, **values):
    with store.autocommit() as conn:
        conn.execute(text(sql), values)


def delivery_of(store, job_id):
    with store.autocommit() as conn:
        return conn.execute(
            text("SELECT * FROM webhook_deliveries WHERE job_id = :id"), {"id": job_id}
        ).one()


def make_due(store, job_id):
    """End the wait for the next try, or a lease."""
    with store.autocommit() as conn:
        conn.execute(
            text("UPDATE webhook_deliveries SET next_at = now() WHERE job_id = :id"),
            {"id": job_id},
        )


def wait_recorded(store, job_id, tries=1):
    """The delivery once try number `tries` is recorded."""

    def recorded():
        row = delivery_of(store, job_id)
        return row.tries >= tries and (row.last_status is not None or row.last_error is not None)

    services.wait_until(recorded, timeout_s=TIMEOUT_S + 10)
    return delivery_of(store, job_id)


def seconds_until_due(store, job_id):
    with store.autocommit() as conn:
        return float(
            conn.execute(
                text(
                    "SELECT extract(epoch FROM next_at - now()) FROM webhook_deliveries"
                    " WHERE job_id = :id"
                ),
                {"id": job_id},
            ).scalar_one()
        )
