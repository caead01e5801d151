"""The calls about jobs and their pictures, described once for both clients (see wire.py)."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, Unpack
from uuid import uuid4

import httpx

from stillmotion.answers import Estimate, Job, TimelineEntry, Upload, json_of
from stillmotion.errors import Rejected, Unreachable, WaitTimeout
from stillmotion.requests import ask, ask_all, body_of, given, pages, quoted, remove
from stillmotion.states import JobState
from stillmotion.wire import (
    RETRIED,
    TRIES,
    Flow,
    Items,
    Open,
    Read,
    Request,
    Sleep,
    Work,
    exchange,
    pause_s,
    refused,
)

POLL_FIRST_S, POLL_LAST_S, POLL_GROWTH = 0.1, 1.0, 1.2
OUTAGE_S = 60.0  # how long a wait puts up with a server that does not answer
MAX_WAIT_S = 60  # the server waits no longer

# A path, the picture's bytes, an open file, an https URL, or a picture that was uploaded before.
Picture = str | Path | bytes | BinaryIO | Upload


class Order(TypedDict, total=False):
    """What may be asked for beside picture and prompt. Missing, or None: the default."""

    model: str | None
    seed: int | None
    frames: int | None
    fps: int | None
    size: int | None  # longest side, pixels
    motion: float | None  # multiplies all motion, 0 to 2
    loop: bool | None
    region: str | None
    policy: str | None  # strict, ring, any
    allowed_regions: list[str] | None
    webhook_url: str | None
    webhook_events: list[str] | None
    metadata: dict[str, str] | None
    max_queue_seconds: int | None
    deadline_seconds: int | None
    retention_seconds: int | None
    priority: int | None  # 0 paid, 1 interactive, 2 batch


def submit(
    image: Picture,
    prompt: str = "",
    *,
    wait_s: int = 0,
    idempotency_key: str | None = None,
    **order: Unpack[Order],
) -> Flow[Job]:
    """Submit a picture: a path, bytes, an open file, an https URL or an upload.

    The idempotency key, made for the call unless one is given, lets a request whose answer was lost
    be repeated without making a second job. `wait_s`: answer when the job has ended, or after that
    many seconds (60 at most). Raises Rejected, Unreachable and OSError.
    """
    headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
    if wait_s:
        wait_s = min(wait_s, MAX_WAIT_S)
        headers["Prefer"] = f"wait={wait_s}"
    content = yield from _ordered(image, prompt, order)
    request = Request("POST", "/v1/jobs", content | {"headers": headers}, silence_s=wait_s)
    answer = yield from exchange(request)
    return Job.of(json_of(answer))


def estimate(image: Picture, prompt: str = "", **order: Unpack[Order]) -> Flow[Estimate]:
    """What such a submit would come to; nothing is stored. Raises as `submit` does."""
    content = yield from _ordered(image, prompt, order)
    request = Request("POST", "/v1/jobs", content | {"params": {"dry_run": 1}})
    answer = yield from exchange(request)
    return Estimate.of(json_of(answer))


def upload(image: str | Path | bytes | BinaryIO) -> Flow[Upload]:
    """Send a picture ahead of its jobs, straight to storage. Raises as `submit` does."""
    data = yield from _data(image)
    made = yield from ask(Upload, Request("POST", "/v1/uploads", body_of(size_bytes=len(data))))
    yield from exchange(Request("PUT", made.url, {"content": data}, signed=True))
    return made


def get(job_id: str) -> Flow[Job]:
    """One job, with its attempts. Raises Rejected, Unreachable."""
    return (yield from ask(Job, Request("GET", job_path(job_id))))


def list_jobs(
    *,
    limit: int | None = None,
    state: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Items[Job]:
    """The key's jobs, newest first; pages are asked for as they are needed.

    `limit`: so many at most. Raises Rejected, Unreachable.
    """
    query = {
        "state": state,
        "created_after": created_after and created_after.isoformat(),
        "created_before": created_before and created_before.isoformat(),
    }
    query |= {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
    return pages(Job, "/v1/jobs", query, limit)


def cancel(job_id: str, *, tries: int = TRIES) -> Flow[Job]:
    """Cancel a job, or ask its worker to stop. Raises Rejected (409 after its end), Unreachable."""
    try:
        return (yield from ask(Job, Request("POST", job_path(job_id, "/cancel")), tries))
    except Rejected as error:
        if error.code != "job_already_ended" or not error.repeated:
            raise
        job = yield from get(job_id)
        if job.state != JobState.CANCELED:
            raise
        return job  # by the try whose answer was lost


def delete(job_id: str) -> Flow[None]:
    """Remove a job's picture, clip and texts, and cancel it if it has not ended.

    Raises Rejected, Unreachable.
    """
    yield from remove(job_path(job_id), "job_deleted")


def timeline(job_id: str) -> Flow[list[TimelineEntry]]:
    """Every state and hop of a job, oldest first. Raises Rejected, Unreachable."""
    return (yield from ask_all(TimelineEntry, job_path(job_id, "/timeline")))


def wait(
    job_id: str,
    on_update: Callable[[Job], None] = lambda job: None,
    timeout_s: float | None = None,
) -> Flow[Job]:
    """Poll until the job ends; `on_update` gets every answer.

    A server that does not answer is waited for, OUTAGE_S at most. Raises WaitTimeout,
    Rejected, Unreachable.
    """
    started = answered = time.monotonic()
    wait_s = POLL_FIRST_S
    while True:
        try:
            job = yield from ask(Job, Request("GET", job_path(job_id)), tries=1)
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
        yield Sleep(min(wait_s, left_s))
        wait_s = min(POLL_LAST_S, wait_s * POLL_GROWTH)


def download(job_id: str, path: str | Path) -> Flow[Path]:
    """Fetch a succeeded job's clip to `path`: all of it, or nothing.

    Raises Rejected, Unreachable and OSError.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        for n in range(1, TRIES + 1):
            # A signed URL expires, so it is asked for when it is needed.
            output = (yield from get(job_id)).output
            if output is None:
                raise Rejected(409, "job_has_no_video", "The job has no video.")
            if (yield from _fetch(output.url, output.size_bytes, part)):
                part.replace(path)
                return path
            if n < TRIES:
                yield Sleep(pause_s(n))
        raise Unreachable(f"The clip of job {job_id} could not be fetched.")
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, size_bytes: int, path: Path) -> Flow[bool]:
    """Write what the URL serves to `path`. False: it may work another time."""
    try:
        answer: httpx.Response = yield Open(Request("GET", url, signed=True))
        if not answer.is_success:
            if answer.status_code in RETRIED:
                return False
            raise refused(answer)
        with path.open("wb") as file:
            while data := (yield Read()):
                yield Work(partial(file.write, data))
            return file.tell() == size_bytes
    except httpx.RequestError:
        return False


def job_path(job_id: str, call: str = "") -> str:
    return f"/v1/jobs/{quoted(job_id)}{call}"


def _ordered(image: Picture, prompt: str, order: Order) -> Flow[dict[str, Any]]:
    """An order as httpx sends it: a form with the picture in it, or JSON that names it."""
    fields = {"prompt": prompt} | given(order)
    if isinstance(image, Upload):
        return body_of(upload_id=str(image.id), **fields)
    if isinstance(image, str) and image.startswith("https://"):
        return body_of(image=image, **fields)
    data = yield from _data(image)
    return {
        "files": {"image": ("image", data)},
        "data": {name: _field(value) for name, value in fields.items()},
    }


def _data(image: str | Path | bytes | BinaryIO) -> Flow[bytes]:
    """The picture's bytes. All of them: a request may have to be repeated."""
    if isinstance(image, bytes):
        return image
    read = Path(image).read_bytes if isinstance(image, str | Path) else image.read
    data: bytes = yield Work(read)
    return data


def _field(value: Any) -> Any:
    """An option as a form has it."""
    if isinstance(value, Mapping):
        return json.dumps(value)
    return list(value) if isinstance(value, list | tuple) else str(value)
