"""Where a tenant sees a worker: its name, but not the name of its host."""

import json

import pytest

from app.api.application import create_app
from app.store import keys
from app.store.job import attempts
from tests.support import calls, make

HOST = "gpu-17.rack-4.example.internal"
WORKER = f"gpu-1a2b3c4d@{HOST}"


@pytest.fixture
def client_of(settings, contract, store):
    """A client with a key of these scopes, and the id of its job, which has succeeded."""
    app = create_app(settings)
    app.test_client_class = contract.client_class()

    def client(photo, *scopes):
        with store.begin() as tx:
            _, key = keys.create(tx, "somebody", scopes)
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        job_id = calls.submit(client, photo).get_json()["id"]
        with store.begin() as tx:
            [placed] = make.place(tx, "motion-small", "us-east", "us-east", ["token"])
            make.begin(tx, placed.job_id, placed.fence, worker=WORKER)
            attempts.finish(
                tx, placed.job_id, placed.fence, "outputs/a.mp4", 3, lease_token=make.LEASE
            )
        return client, f"/v1/jobs/{job_id}"

    yield client
    app.extensions["services"].close()


def shown(client, job) -> list[str]:
    """The worker as the job, its timeline and the end of its events show it."""
    events = client.get(f"{job}/events").get_data(as_text=True)
    completed = events.partition("event: completed\ndata: ")[2].partition("\n")[0]
    timeline = client.get(f"{job}/timeline").get_json()["data"]
    return [
        client.get(job).get_json()["attempts"][0]["worker"],
        *(entry["worker"] for entry in timeline if "worker" in entry),
        json.loads(completed)["attempts"][0]["worker"],
    ]


def test_a_tenant_sees_no_host(client_of, photo):
    client, job = client_of(photo, "jobs")
    assert shown(client, job) == ["gpu-1a2b3c4d"] * 3
    for path in (job, f"{job}/timeline", f"{job}/events", "/v1/jobs", "/v1/regions"):
        assert HOST not in client.get(path).get_data(as_text=True), path


def test_an_operator_sees_the_worker_as_flower_names_it(client_of, photo):
    client, job = client_of(photo, "jobs", "admin")
    assert shown(client, job) == [WORKER] * 3
