"""A small client of the API: submit a picture, wait, fetch the clip."""

import contextlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import httpx

from app.domain.backoff import full_jitter
from app.domain.errors import StillmotionError, Transient

TRIES = 6  # some seconds of a server that is away, more if it asks for more
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.25, 8.0
RETRY_AFTER_CAP_S = 30.0
RETRIED = frozenset({429, 502, 503, 504})

POLL_FIRST_S, POLL_LAST_S, POLL_GROWTH = 0.1, 1.0, 1.2
OUTAGE_S = 60.0  # how long a wait puts up with a server that does not answer


class Unreachable(Transient):
    """The server cannot be reached, or has a fault of its own."""

    code = "unreachable"


class WaitTimeout(Transient):
    """The job has not ended in the time that the caller gave it; it goes on."""

    code = "wait_timeout"


class Rejected(StillmotionError):
    """The server refuses the request; `code` and `detail` are its own words."""

    def __init__(self, status: int, code: str, detail: str):
        super().__init__(detail, code=code)
        self.status = status


@dataclass(frozen=True)
class Job:
    """A job as the server described it; `raw` is the whole description."""

    raw: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.raw["id"]

    @property
    def state(self) -> str:
        return self.raw["state"]

    @property
    def terminal(self) -> bool:
        return self.raw["terminal"]

    @property
    def step(self) -> int:
        return self.raw["progress"]["step"]

    @property
    def steps(self) -> int:
        return self.raw["progress"]["steps"]

    @property
    def position(self) -> int | None:
        """Jobs that are taken before this one; None unless it is queued."""
        queue = self.raw.get("queue")
        return None if queue is None else queue["position"]

    @property
    def error(self) -> str | None:
        """What went wrong, as one sentence."""
        error = self.raw.get("error")
        return None if error is None else error["message"]


class Client:
    """Talks to one server with one API key. Threads may share it.

    A request whose answer did not come is repeated, TRIES times in all; then Unreachable is raised.
    Rejected is raised for what the server refuses.
    """

    def __init__(self, base_url: str, api_key: str, timeout_s: float = 30.0):
        self._http = httpx.Client(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=timeout_s,
        )
        # A signed URL is its own authority, and may be another host's: no key goes there.
        self._plain = httpx.Client(timeout=timeout_s, follow_redirects=False)

    def close(self) -> None:
        self._http.close()
        self._plain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, image: Path | bytes, prompt: str = "", **options: Any) -> Job:
        """Submit a picture. `options` are the API's fields; None stands for its default.

        One idempotency key is made for the call, so a request whose answer was lost is repeated
        without making a second job. Raises Rejected, Unreachable and OSError.
        """
        data = image if isinstance(image, bytes) else image.read_bytes()
        fields = {"prompt": prompt} | {
            name: _field(value) for name, value in options.items() if value is not None
        }
        answer = self._send(
            "POST",
            "/v1/jobs",
            files={"image": ("image", data)},
            data=fields,
            headers={"Idempotency-Key": uuid4().hex},
        )
        return Job(answer.json())

    def get(self, job_id: str) -> Job:
        """Ask for one job. Raises Rejected, Unreachable."""
        return Job(self._send("GET", _path(job_id)).json())

    def list(self, limit: int = 20, state: str | None = None) -> list[Job]:
        """The newest jobs. Raises Rejected, Unreachable."""
        query = {"limit": limit} | ({} if state is None else {"state": state})
        answer = self._send("GET", "/v1/jobs", params=query)
        return [Job(raw) for raw in answer.json()["data"]]

    def cancel(self, job_id: str, *, tries: int = TRIES) -> Job:
        """Cancel a job, or ask its worker to stop. Raises Rejected (409 after its end)."""
        return Job(self._send("POST", _path(job_id, "/cancel"), tries=tries).json())

    def regions(self) -> dict[str, Any]:
        """Every region as it is now, and the routing table. Raises Rejected, Unreachable."""
        return self._send("GET", "/v1/regions").json()

    def decide(self, path: str, body: Any = None) -> dict[str, Any]:
        """Post an operator's verb; doing it twice does no harm. Raises Rejected, Unreachable."""
        return self._send("POST", path, json=body).json()

    def audit(self, limit: int = 20) -> Sequence[dict[str, Any]]:
        """Operators' verbs, newest first. Raises Rejected, Unreachable."""
        return self._send("GET", "/v1/audit", params={"limit": limit}).json()["data"]

    def wait(
        self,
        job_id: str,
        on_update: Callable[[Job], None] = lambda job: None,
        timeout_s: float | None = None,
    ) -> Job:
        """Poll until the job ends; `on_update` gets every answer.

        A server that does not answer is waited for, OUTAGE_S at most. Raises WaitTimeout,
        Rejected, Unreachable.
        """
        started = answered = time.monotonic()
        pause_s = POLL_FIRST_S
        while True:
            try:
                job = Job(self._send("GET", _path(job_id), tries=1).json())
            except Unreachable:
                if time.monotonic() - answered > OUTAGE_S:
                    raise
            else:
                answered = time.monotonic()
                on_update(job)
                if job.terminal:
                    return job
            left_s = float("inf") if timeout_s is None else started + timeout_s - time.monotonic()
            if left_s <= 0:
                raise WaitTimeout(f"Job {job_id} has not ended within {timeout_s:g} s; it goes on.")
            time.sleep(min(pause_s, left_s))
            pause_s = min(POLL_LAST_S, pause_s * POLL_GROWTH)

    def download(self, job: Job, path: Path) -> Path:
        """Fetch a succeeded job's clip to `path`: all of it, or nothing.

        Raises Rejected, Unreachable and OSError.
        """
        partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
        try:
            for n in range(TRIES):
                if n:
                    _pause(n, None)
                # A signed URL expires, so it is asked for when it is needed.
                output = self.get(job.id).raw["output"]
                if output is None:
                    raise Rejected(409, "job_has_no_video", "The job has no video.")
                if self._fetch(output["url"], output["size_bytes"], partial):
                    partial.replace(path)
                    return path
            raise Unreachable(f"The clip of job {job.id} could not be fetched.")
        finally:
            partial.unlink(missing_ok=True)

    def call(self, method: str, path: str, **request: Any) -> Any:
        """Any other call of the API; returns the JSON of its answer, None for an empty one.

        Only what reads is repeated. Raises Rejected, Unreachable.
        """
        answer = self._send(method, path, tries=TRIES if method == "GET" else 1, **request)
        return answer.json() if answer.content else None

    def _fetch(self, url: str, size_bytes: int, path: Path) -> bool:
        """Write what the URL serves to `path`; False: it may work another time."""
        with contextlib.suppress(httpx.TransportError), self._plain.stream("GET", url) as answer:
            if answer.status_code in RETRIED:
                return False
            if not answer.is_success:
                answer.read()
                raise _rejected(answer)
            with path.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
                return file.tell() == size_bytes
        return False

    def _send(
        self, method: str, path: str, *, tries: int = TRIES, **request: Any
    ) -> httpx.Response:
        """One request, repeated while that is safe: every one that is sent here is idempotent."""
        problem = "it does not answer"
        for n in range(1, tries + 1):
            retry_after = None
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            else:
                if answer.is_success:
                    return answer
                if 400 <= answer.status_code < 500 and answer.status_code != 429:
                    raise _rejected(answer)
                problem = _rejected(answer).detail
                if answer.status_code not in RETRIED:
                    break
                retry_after = answer.headers.get("Retry-After")
            if n < tries:
                _pause(n, retry_after)
        raise Unreachable(f"The server at {self._http.base_url} cannot be used: {problem}")


def _path(job_id: str, call: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{call}"


def _field(value: Any) -> Any:
    """An option as a form has it."""
    if isinstance(value, Mapping):
        return json.dumps(value)
    return list(value) if isinstance(value, (list, tuple)) else str(value)


def _pause(n: int, retry_after: str | None) -> None:
    wait_s = full_jitter(n - 1, random.random(), base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S)
    if retry_after is not None and retry_after.isdecimal():
        # On top: callers that were all sent away together must not all come back together.
        wait_s += min(int(retry_after), RETRY_AFTER_CAP_S)
    time.sleep(wait_s)


def _rejected(answer: httpx.Response) -> Rejected:
    """A refusal in the server's words, or the proxy's that stands before it."""
    try:
        body = answer.json()
        return Rejected(answer.status_code, body["code"], body["detail"])
    except (ValueError, LookupError, TypeError):
        return Rejected(
            answer.status_code, "unknown", f"It answered with status {answer.status_code}."
        )
