"""Clients of the API during a storm, and everything the API answered them."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from scripts.benchmarks.client import BOUNDARY, form
from scripts.benchmarks.fault_testbed import REGIONS, Testbed

PATIENCE_S = 10.0
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
SUBMIT_TRIES = 6  # under one idempotency key
CLIENTS = 4
LIMITED = 3  # concurrent jobs of the last client's key
EVERY_S = 1.5  # mean time between two submits of one client
TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


@dataclass
class Observed:
    """What one client has seen of one job."""

    ended: str | None = None  # the terminal state it saw
    cancel_accepted: bool = False
    delete_tried: bool = False


@dataclass
class Ledger:
    """What all clients saw. Each job belongs to one client, so only additions need the lock."""

    jobs: dict[str, Observed] = field(default_factory=dict)  # accepted, by id
    broken: list[str] = field(default_factory=list)  # contradictions that a client saw
    doubled: list[str] = field(default_factory=list)  # two jobs under one idempotency key
    answers: Counter[str] = field(default_factory=Counter)  # by kind of request and status
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, request: str, status: int) -> None:
        with self.lock:
            self.answers[f"{request} {status or 'no answer'}"] += 1


class Api:
    """One keep-alive connection. Every answer is returned, errors included."""

    def __init__(self, url: str, key: str):
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        self._auth = {"Authorization": f"Bearer {key}"}

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, dict[str, Any]]:
        """(status, answer); status 0 means no answer."""
        status, _, payload = self._exchange(method, path, body, headers)
        return status, json.loads(payload) if payload else {}

    def submit(self, key: str | None = None, **fields: str) -> tuple[int, str]:
        """(status, the job's id or "")."""
        headers = FORM if key is None else FORM | {"Idempotency-Key": key}
        status, job = self.call("POST", "/v1/jobs", form(**fields), headers)
        return status, str(job["id"]) if status == 202 else ""

    def offer(self, **fields: str) -> tuple[int, bool]:
        """(status, whether the answer says when to try again)."""
        status, headers, _ = self._exchange("POST", "/v1/jobs", form(**fields), FORM)
        return status, headers is not None and "Retry-After" in headers

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, http.client.HTTPMessage | None, bytes]:
        try:
            self._connection.request(method, path, body, {**self._auth, **headers})
            answer = self._connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, None, b""


class StormClient:
    """Submits, polls, cancels and deletes until `stop()`; `orders` takes "cancel" and "delete"."""

    def __init__(self, testbed: Testbed, ledger: Ledger, key: str, seed: int):
        self._api = Api(testbed.stack.url, key)
        self._webhook_url = testbed.webhooks.url
        self._ledger = ledger
        self._random = random.Random(seed)
        self._mine: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.orders: SimpleQueue[str] = SimpleQueue()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        draw = self._random
        while not self._stopping.wait(draw.expovariate(1 / EVERY_S)):
            self._submit()
            for job_id in draw.sample(self._mine[-30:], min(2, len(self._mine[-30:]))):
                self._look(job_id)
            if self._mine and draw.random() < 0.08:
                self._cancel(draw.choice(self._mine[-10:]))
            if self._mine and draw.random() < 0.04:
                self._delete(draw.choice(self._mine[-30:]))
            self._obey()

    def look_at_all(self) -> None:
        """Ask once more for every job; call it when the thread has ended."""
        for job_id in self._mine:
            self._look(job_id)

    def _obey(self) -> None:
        """Cancel or delete half of the newest jobs if ordered to."""
        try:
            order = self.orders.get_nowait()
        except Empty:
            return
        newest = self._mine[-20:]
        for job_id in self._random.sample(newest, len(newest) // 2):
            self._cancel(job_id) if order == "cancel" else self._delete(job_id)

    def _submit(self) -> None:
        draw = self._random
        key = str(UUID(int=draw.getrandbits(128))) if draw.random() < 0.6 else None
        fields = {
            "region": draw.choice(REGIONS),
            "priority": str(draw.choice((0, 1, 1, 2))),
            "webhook_url": self._webhook_url,
        }
        if draw.random() < 0.05:
            fields["deadline_seconds"] = "20"
        for n in range(SUBMIT_TRIES if key else 1):
            status, job_id = self._api.submit(key, **fields)
            self._ledger.note("submit", status)
            if job_id:
                self._accepted(job_id)
                break
            if status not in (0, 429) and status < 500:
                return
            if self._stopping.wait(min(2.0, 0.1 * 2**n)):
                return
        if key and job_id and draw.random() < 0.2:  # as if the answer was lost
            again, same = self._api.submit(key, **fields)
            self._ledger.note("replay", again)
            if same and same != job_id:
                self._accepted(same)
                with self._ledger.lock:
                    self._ledger.doubled.append(f"one idempotency key made {job_id} and {same}")

    def _accepted(self, job_id: str) -> None:
        with self._ledger.lock:
            self._ledger.jobs.setdefault(job_id, Observed())
        self._mine.append(job_id)

    def _look(self, job_id: str) -> None:
        status, job = self._api.call("GET", f"/v1/jobs/{job_id}")
        self._ledger.note("show", status)
        seen = self._ledger.jobs[job_id]
        if status in (404, 410) and not seen.delete_tried:
            self._broken(f"{job_id} was accepted and is unknown ({status})")
        if status != 200:
            return
        if seen.ended and job["state"] != seen.ended:
            self._broken(f"{job_id} was shown as {seen.ended}, then as {job['state']}")
        if job["state"] in TERMINAL:
            seen.ended = job["state"]

    def _cancel(self, job_id: str) -> None:
        status, job = self._api.call("POST", f"/v1/jobs/{job_id}/cancel")
        self._ledger.note("cancel", status)
        seen = self._ledger.jobs[job_id]
        if status in (200, 202):
            if seen.ended not in (None, "canceled"):
                self._broken(f"{job_id} was shown as {seen.ended}, then a cancel was accepted")
            seen.cancel_accepted = True
        if status == 200:
            seen.ended = job["state"]

    def _delete(self, job_id: str) -> None:
        self._ledger.jobs[job_id].delete_tried = True
        status, _ = self._api.call("DELETE", f"/v1/jobs/{job_id}")
        self._ledger.note("delete", status)

    def _broken(self, sentence: str) -> None:
        with self._ledger.lock:
            self._ledger.broken.append(sentence)


class Crowd:
    """The clients of one storm. The last one's key has a concurrency limit."""

    def __init__(self, testbed: Testbed, seed: int):
        self.ledger = Ledger()
        limits = [None] * (CLIENTS - 1) + [LIMITED]
        self._clients = [
            StormClient(
                testbed,
                self.ledger,
                testbed.key(f"storm-{n}", max_concurrency=limit),
                seed * 1000 + n,
            )
            for n, limit in enumerate(limits)
        ]

    def start(self) -> None:
        for client in self._clients:
            client.start()

    def order(self, what: str) -> None:
        for client in self._clients:
            client.orders.put(what)

    def stop(self) -> None:
        for client in self._clients:
            client.stop()
        deadline = time.monotonic() + SUBMIT_TRIES * (PATIENCE_S + 2)
        for client in self._clients:
            client.join(max(0.0, deadline - time.monotonic()))

    def look_at_all(self) -> None:
        for client in self._clients:
            client.look_at_all()
