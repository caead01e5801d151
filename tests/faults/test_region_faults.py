"""Two regions, each with its own Valkey as Redis and broker: one dies, the other serves."""

import os
import signal
import time

import httpx
import psycopg
import pytest
import redis

from scripts.stack import Stack
from scripts.stack.data import ROOT
from tests.support.services import wait_until

REGIONS = ("us-east", "eu-west")
PROCESSES = (
    *("api", "dispatcher", "dispatcher:eu-west", "cpu", "cpu:eu-west"),
    *("gpu:us-east", "gpu:eu-west"),
)
RENDER_S = 1.0  # long enough to kill something meanwhile
PICTURE = (ROOT / "scripts/assets/cat.jpg").read_bytes()


class Service:
    """A running stack, as its clients see it."""

    def __init__(self, stack: Stack):
        self.stack = stack
        key = {"Authorization": f"Bearer {stack.api_key()}"}
        self._http = httpx.Client(base_url=stack.url, headers=key, timeout=30, trust_env=False)

    def submit(self, region: str, policy: str = "ring") -> str:
        answer = self._http.post(
            "/v1/jobs",
            files={"image": ("a.jpg", PICTURE, "image/jpeg")},
            data={"region": region, "policy": policy},
        )
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def read(self, job_id: str) -> dict:
        return self._http.get(f"/v1/jobs/{job_id}").raise_for_status().json()

    def wait(self, job_id: str, state: str = "succeeded", timeout_s: float = 30.0) -> dict:
        wait_until(lambda: self.read(job_id)["state"] == state, timeout_s=timeout_s)
        return self.read(job_id)

    def served_by(self, job_id: str) -> list[str]:
        """The regions whose workers began the job, according to the database."""
        with psycopg.connect(self.stack.env["DATABASE_URL"]) as connection:
            rows = connection.execute(
                "SELECT region FROM attempts WHERE job_id = %s AND begun_at IS NOT NULL", (job_id,)
            )
            return [region for (region,) in rows]


@pytest.fixture(scope="module")
def service():
    environ = {"PATH": os.environ["PATH"], "MODEL_PROFILE": "noop"}
    environ |= {"NOOP_STEP_S": str(RENDER_S)}
    with Stack(
        None,
        regions=REGIONS,
        processes=PROCESSES,
        valkeys=True,
        environ=environ,
        restart=False,
    ) as stack:
        yield Service(stack)


def test_each_region_s_workers_are_known_to_its_own_valkey_alone(service):
    for region in REGIONS:
        assert service.served_by(service.wait(service.submit(region))["id"]) == [region]
    second = service.stack.services.redis_urls[service.stack.valkey_of("eu-west")]
    urls = {"us-east": service.stack.env["REDIS_URL"], "eu-west": second}
    pools = {}
    for name, url in urls.items():
        with redis.Redis.from_url(url, decode_responses=True, socket_timeout=5) as client:
            # Celery makes a binding for every queue that has a consumer.
            assert client.exists(f"_kombu.binding.animate.{name}.noop")
            assert client.exists("_kombu.binding.webhooks")
            pools[name] = client.keys("*:idle")
    assert pools == {name: [f"{{{name}/noop}}:idle"] for name in REGIONS}


@pytest.mark.parametrize(("dead", "alive"), [REGIONS[::-1], REGIONS])
def test_a_region_whose_valkey_is_killed_leaves_the_other_serving(service, dead, alive):
    stack = service.stack
    valkey = stack.valkey_of(dead)
    begun = service.submit(dead, "strict")
    service.wait(begun, "processing")
    stack.kill(valkey)
    wait_until(lambda: not stack.running(valkey))
    try:
        strict = service.submit(dead, "strict")
        killed = time.monotonic()
        for home in (alive, dead, dead, alive):
            job = service.wait(service.submit(home))
            assert service.served_by(job["id"]) == [alive]
        # Four jobs in a row, a second each: none waited for the dead region's answer.
        assert time.monotonic() - killed < 4 * (RENDER_S + 4.0)
        assert service.wait(begun)["id"] == begun, "a render goes on without its Valkey"
        assert service.served_by(begun) == [dead]
        assert service.read(strict)["state"] == "queued", "a strict job waits for its home"
    finally:
        stack.start(valkey)
    assert service.wait(strict, timeout_s=60)["region"]["current"] == dead
    # Not the very next job: its worker may not be idle yet.
    wait_until(lambda: service.served_by(service.wait(service.submit(dead))["id"]) == [dead])
    for job_id in (begun, strict):
        assert service.served_by(job_id) == [dead], "begun once"
    for name in PROCESSES:
        assert stack.running(name), name


def test_a_job_that_overflows_says_that_its_home_did_not_answer(service):
    valkey = service.stack.valkey_of("eu-west")
    service.stack.kill(valkey, signal.SIGKILL)
    wait_until(lambda: not service.stack.running(valkey))
    try:
        job = service.wait(service.submit("eu-west", "any"))
    finally:
        service.stack.start(valkey)
    assert job["region"] | {"current": "us-east"} == job["region"]
    [attempt] = job["attempts"]
    assert {"region": "eu-west", "outcome": "refused", "reason": "region_unknown"}.items() <= (
        attempt["hops"][0].items()
    )
