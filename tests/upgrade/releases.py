"""Processes of two releases on one deployment, and a client that loses nothing."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import redis

from app.broker import keys
from app.config.settings import Settings
from app.domain.routing.topology import Pool
from tests.support import services

POOL = Pool("us-east", "noop")
START_S = 90.0


@dataclass(frozen=True)
class Release:
    """A tree with the code of one release."""

    name: str
    root: Path

    def environment(self, settings: Settings) -> dict[str, str]:
        return services.environment(settings) | {"PYTHONPATH": str(self.root)}

    def run(self, settings: Settings, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of its modules to the end."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment(settings),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def command(self, settings: Settings, *arguments: str) -> str:
        """Run the operator's command; what it prints."""
        done = self.run(settings, "stillmotion.cli", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


class Mixed:
    """An API, a dispatcher and a GPU worker, each of one release or the other.

    They end with `stack`. A part is replaced under the load that is there.
    """

    def __init__(self, settings: Settings, directory: Path, stack: ExitStack):
        self.settings = settings
        self._directory = directory
        self._stack = stack
        self._redis = stack.enter_context(redis.Redis.from_url(settings.redis_url))
        self._children: dict[str, subprocess.Popen] = {}
        self._started = 0
        self.workers: dict[str, str] = {}  # a worker's name -> its release

    def replace(self, part: str, release: Release, how: signal.Signals) -> None:
        """End the part that runs, and start one of this release."""
        before = self._children.pop(part, None)
        if before is not None:
            os.killpg(before.pid, how)
            before.wait(60)
        child = self._children[part] = self._start(part, release)
        if part == "api":
            services.wait_until(self._healthy, child, START_S)
        elif part == "worker":
            services.wait_until(lambda: self._note_worker(release), child, START_S)

    def _start(self, part: str, release: Release) -> subprocess.Popen:
        bind = self.settings.public_url.removeprefix("http://")
        arguments = {
            "api": ["gunicorn", "-c", "python:app.gunicorn_conf", "-b", bind, "app.wsgi:app"],
            "dispatcher": ["app.dispatcher"],
            "worker": ["workers.gpu"],
        }[part]
        self._started += 1
        path = self._directory / f"{self._started:02}-{part}-{release.name}.log"
        out = self._stack.enter_context(path.open("ab"))
        return self._stack.enter_context(
            services.process(
                [sys.executable, "-m", *arguments],
                env=release.environment(self.settings),
                cwd=release.root,
                stdout=out,
                stderr=out,
            )
        )

    def _healthy(self) -> bool:
        return httpx.get(f"{self.settings.public_url}/healthz").is_success

    def _note_worker(self, release: Release) -> bool:
        names = {name.decode() for name in self._redis.zrange(keys.alive(POOL), 0, -1)}
        new = names - self.workers.keys()
        self.workers.update(dict.fromkeys(new, release.name))
        return bool(new)


class Client:
    """Submits as a client does that wants exactly one job: again with its key until answered."""

    def __init__(self, settings: Settings, key: str, picture: bytes, webhook_url: str):
        self._http = httpx.Client(
            base_url=settings.public_url, headers={"Authorization": f"Bearer {key}"}, timeout=15
        )
        self._picture = picture
        self._webhook_url = webhook_url
        self.accepted: list[UUID] = []

    def submit(self, count: int) -> list[UUID]:
        made = [self._submit() for _ in range(count)]
        self.accepted += made
        return made

    def _submit(self) -> UUID:
        again = {"Idempotency-Key": uuid4().hex}
        until = time.monotonic() + START_S
        while True:
            try:
                answer = self._http.post(
                    "/v1/jobs",
                    headers=again,
                    data={"model": "noop", "webhook_url": self._webhook_url},
                    files={"image": ("one.jpg", self._picture)},
                )
                if answer.status_code == 202:
                    return UUID(answer.json()["id"])
                problem = answer.text
            except httpx.TransportError as error:
                problem = repr(error)
            if time.monotonic() > until:
                raise AssertionError(problem)
            time.sleep(0.2)

    def state(self, job: UUID) -> str:
        """As the API shows it, of whichever release that is."""
        return self._http.get(f"/v1/jobs/{job}").json()["state"]

    def fetch(self, job: UUID) -> bytes:
        url = self._http.get(f"/v1/jobs/{job}").json()["output"]["url"]
        return httpx.get(url, timeout=15).raise_for_status().content
