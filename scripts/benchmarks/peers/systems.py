"""BentoML tasks and Ray Serve's asynchronous inference, as systems to measure.

Each renders two jobs at a time, as our two workers do. Neither checks its picture, as our API does.
"""

import contextlib
import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import redis

from scripts.benchmarks.client import Client, form
from scripts.benchmarks.flushes import Chain
from scripts.benchmarks.peers.peer import HERE, Peer
from scripts.stack.stack import Stack


class BentoML(Peer):
    """`@bentoml.task`, which runs a task in the web process that accepted it."""

    name = "bentoml"
    durability = (
        "picture and state in SQLite, flushed before the response; but the task lives in the web "
        "process and is lost with it, and the next start deletes the file"
    )
    chain = Chain(objects=0, commits=2)  # the row with the picture, and its end with the clip
    ready_path = "/readyz"

    def processes(self) -> Mapping[str, Sequence[str | Path]]:
        serve: list[str | Path] = [
            self.bin / "python",
            "-m",
            "bentoml",
            "serve",
            "bentoml_service:Animation",
        ]
        serve += ["--working-dir", HERE, "--host", "127.0.0.1", "--port", str(self.port)]
        return {self.name: serve}

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
    chain = Chain(objects=0, commits=0)
    ready_path = "/?id=none"

    def __init__(self, python: Path, stack: Stack):
        super().__init__(python, stack)
        self.broker = stack.env["REDIS_URL"].rsplit("/", 1)[0] + "/6"  # a database of its own

    def processes(self) -> Mapping[str, Sequence[str | Path]]:
        return {self.name: [self.bin / "python", HERE / "ray_service.py"]}

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
