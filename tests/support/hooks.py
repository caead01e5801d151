"""Create webhooks through the API and inspect their deliveries."""

from sqlalchemy import text

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
