"""BentoML tasks and Ray Serve's asynchronous inference, as systems to measure.

Each renders two jobs at a time, as our two workers do. Neither checks its picture, as our API does.
"""

import contextlib
import json
import os
import secrets
import sqlite3
import time
from abc import ABC, abstractmethod
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import redis

from scripts.benchmarks.client import Client, form
from scripts.benchmarks.systems import DRAIN_S
from scripts.stack import StackError
from scripts.stack.data import ROOT
from scripts.stack.stack import Stack, answers
from scripts.stack.supervisor import Spec

HERE = Path(__file__).parent
CLIP = ROOT / "workers/engines/noop/noop.mp4"
READY_S = 300.0
STOP_S = 30.0
POLL_S = 0.02  # interval between checks for finished jobs


class Peer(ABC):
    """A peer as a context manager that runs it with the supervisor and data directory of a stack.

    Raises StackError if it does not start.
    """

    name: ClassVar[str]  # of its environment; also the prefix of its figures
    durability: ClassVar[str]
    ready_path: ClassVar[str]  # returns 200 once it is ready

    def __init__(self, python: Path, stack: Stack):
        self.bin = python.parent
        self.folder = stack.data.folder(self.name)
        self.port = stack.data.ports([self.name])[self.name]
        self.broker = stack.env["REDIS_URL"].rsplit("/", 1)[0] + "/6"  # a database of its own
        self._supervisor = stack.services.supervisor
        self._hold = self.folder / "hold"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def argv(self) -> list[str | Path]: ...

    @abstractmethod
    def env(self) -> dict[str, str]: ...

    @abstractmethod
    def client(self) -> Client: ...

    @abstractmethod
    def last_done(self, ids: list[str]) -> float | None:
        """When the last of these jobs was done, in Unix seconds; None while some are not."""

    def hold(self) -> None:
        """Create the file that makes renders wait."""
        self._hold.touch()

    def drain(self, ids: list[str]) -> float:
        start = time.time()
        self._hold.unlink()
        while (end := self.last_done(ids)) is None:
            if time.time() - start > DRAIN_S:
                raise RuntimeError(f"{len(ids)} jobs did not finish within {DRAIN_S:.0f} s")
            time.sleep(POLL_S)
        return end - start

    def __enter__(self) -> Self:
        self._hold.unlink(missing_ok=True)
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        places = {"PEER_CLIP": str(CLIP), "PEER_HOLD": str(self._hold)}
        env = {**inherited, **places, **self.env()}
        self._supervisor.start(Spec(self.name, self.argv(), env, self.folder, grace_s=STOP_S))
        try:
            self._wait_ready()
        except BaseException:
            self._supervisor.stop(self.name)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._supervisor.stop(self.name)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not answers(self.url + self.ready_path):
            self._supervisor.check(self.name)
            if time.monotonic() > deadline:
                line = self._supervisor.last_line(self.name)
                raise StackError(f"{self.name} is not ready after {READY_S:.0f} s: {line}")
            time.sleep(0.1)


class BentoML(Peer):
    """`@bentoml.task`, which runs a task in the web process that accepted it."""

    name = "bentoml"
    durability = (
        "picture and state in SQLite, flushed before the response; but the task lives in the web "
        "process and is lost with it, and the next start deletes the file"
    )
    ready_path = "/readyz"

    def argv(self) -> list[str | Path]:
        serve: list[str | Path] = [
            self.bin / "python",
            "-m",
            "bentoml",
            "serve",
            "bentoml_service:Animation",
        ]
        return [*serve, "--working-dir", HERE, "--host", "127.0.0.1", "--port", str(self.port)]

    def env(self) -> dict[str, str]:
        return {
            "BENTOML_HOME": str(self.folder),
            "BENTOML_RESULT_STORE": str(self._store),
            "BENTOML_DO_NOT_TRACK": "true",
        }

    @property
    def _store(self) -> Path:
        return self.folder / "results.db"

    def client(self) -> Client:
        return BentoMLClient(self.url)

    def last_done(self, ids: list[str]) -> float | None:
        """By when the commit becomes visible: `completed_at` is set earlier, while others wait."""
        marks = ", ".join("?" * len(ids))
        query = f"SELECT count(completed_at) FROM result WHERE task_id IN ({marks})"
        with contextlib.closing(sqlite3.connect(f"file:{self._store}?mode=ro", uri=True)) as store:
            ((count,),) = store.execute(query, ids)
        return time.time() if count == len(ids) else None


class BentoMLClient(Client):
    def submit(self, **fields: str) -> str:
        return str(self.request("POST", "/animate/submit", form(**fields))["task_id"])

    def done(self, job_id: str) -> bool:
        status = self.request("GET", f"/animate/status?task_id={job_id}")["status"]
        if status not in ("in_progress", "completed"):
            raise RuntimeError(f"task {job_id} {status}")
        return bool(status == "completed")


class Ray(Peer):
    """Ray Serve's task consumers: Celery's worker in a replica, behind an ingress."""

    name = "ray"
    durability = (
        "task consumers: Celery message in the same Valkey, whose log is flushed once a second; "
        "picture in a file, not flushed; a lost worker's task is delivered again after an hour"
    )
    ready_path = "/?id=none"

    def argv(self) -> list[str | Path]:
        return [self.bin / "python", HERE / "ray_service.py"]

    def env(self) -> dict[str, str]:
        return {
            "PEER_PORT": str(self.port),
            "PEER_FOLDER": str(self.folder),
            "PEER_BROKER": self.broker,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else Ray keeps one in the home directory
        }

    def client(self) -> Client:
        return RayClient(self.url)

    def last_done(self, ids: list[str]) -> float | None:
        with redis.Redis.from_url(self.broker, socket_timeout=5) as results:
            kept = results.mget([f"celery-task-meta-{job_id}" for job_id in ids])
        if not all(kept):
            return None
        return max(
            datetime.fromisoformat(json.loads(each)["date_done"]).timestamp() for each in kept
        )


class RayClient(Client):
    def submit(self, **fields: str) -> str:
        return str(self.request("POST", "/", form(**fields))["id"])

    def done(self, job_id: str) -> bool:
        status = self.request("GET", f"/?id={job_id}")["status"]
        if status in ("FAILURE", "REVOKED"):
            raise RuntimeError(f"task {job_id} {status}")
        return bool(status == "SUCCESS")


PEERS: tuple[type[Peer], ...] = (BentoML, Ray)
