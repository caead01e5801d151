"""The calls about jobs and their pictures, described once for both clients (see wire.py)."""

import errno
import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, Unpack
from uuid import uuid4

import httpx

from stillmotion.errors import JobFailed, Rejected, Unreachable, WaitTimeout
from stillmotion.models import Estimate, Job, TimelineEntry, Upload
from stillmotion.requests import (
    fetch,
    fetch_list,
    fetch_pages,
    json_body,
    parse,
    quoted,
    remove,
    without_none,
)
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
    retry_delay_s,
    unsuccessful,
)

POLL_FIRST_S, POLL_LAST_S, POLL_GROWTH = 0.1, 1.0, 1.2
OUTAGE_S = 60.0  # how long a wait tolerates a server that does not respond
MAX_WAIT_S = 60  # the server's own limit

# A path, the picture's bytes, an open file, an https URL, or a picture uploaded earlier.
Picture = str | Path | bytes | BinaryIO | Upload


class SubmitOptions(TypedDict, total=False):
    """Optional settings of a job. A missing or None value means the server's default."""

    model: str | None
    seed: int | None
    frames: int | None
    fps: int | None
    size: int | None  # longest side, pixels
    negative_prompt: str | None  # what not to show; few models take one
    motion: float | None  # scales all motion, 0 to 2
    loop: bool | None
    background: str | None  # what transparent parts are laid on: #rrggbb
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


def run(
    image: Picture,
    prompt: str = "",
    *,
    to: str | Path,
    on_update: Callable[[Job], None] = lambda job: None,
    timeout_s: float | None = None,
    **options: Unpack[SubmitOptions],
) -> Flow[Path]:
    """Submit a picture, wait for its clip, download it to `to`, and return that path.

    Raises JobFailed if the job ends without a clip, and everything that `submit`, `wait` and
    `download` raise. After a WaitTimeout the job continues on the server.
    """
    path = Path(to)
    if not (yield Work(path.parent.is_dir)):  # a job costs something, so check this first
        raise FileNotFoundError(errno.ENOENT, "No such directory", str(path.parent))
    job = yield from submit(image, prompt, **options)
    job = yield from wait(job, on_update, timeout_s)
    if job.state != JobState.SUCCEEDED:
        raise JobFailed(job)
    return (yield from download(job, path))


def submit(
    image: Picture,
    prompt: str = "",
    *,
    wait_s: int = 0,
    idempotency_key: str | None = None,
    **options: Unpack[SubmitOptions],
) -> Flow[Job]:
    """Submit a picture: a path, bytes, an open file, an https URL or an upload.

    The idempotency key lets the client repeat a request whose response was lost without creating a
    second job; the call makes its own unless one is passed. With `wait_s` (60 at most) the server
    responds when the job has ended, or after that many seconds. Raises Rejected, Unreachable and
    OSError.
    """
    headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
    if wait_s:
        wait_s = min(wait_s, MAX_WAIT_S)
        headers["Prefer"] = f"wait={wait_s}"
    content = yield from _submission(image, prompt, options)
    request = Request("POST", "/v1/jobs", content | {"headers": headers}, silence_s=wait_s)
    return (yield from fetch(Job, request))


def estimate(image: Picture, prompt: str = "", **options: Unpack[SubmitOptions]) -> Flow[Estimate]:
    """Estimate wait and cost of such a submit; nothing is stored. Raises as `submit` does."""
    content = yield from _submission(image, prompt, options)
    response = yield from exchange(
        Request("POST", "/v1/jobs", content | {"params": {"dry_run": 1}})
    )
    return parse(Estimate, response)


def upload(image: str | Path | bytes | BinaryIO) -> Flow[Upload]:
    """Upload a picture straight to storage, for later jobs. Raises as `submit` does."""
    data = yield from _data(image)
    body = json_body(size_bytes=len(data))
    made = yield from fetch(Upload, Request("POST", "/v1/uploads", body))
    yield from exchange(Request("PUT", made.url, {"content": data}, signed=True))
    return made


def get(job: Job | str) -> Flow[Job]:
    """Read a job, with its attempts. Raises Rejected, Unreachable."""
    return (yield from fetch(Job, Request("GET", job_path(job))))


def list_jobs(
    *,
    limit: int | None = None,
    state: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Items[Job]:
    """The key's jobs, newest first, at most `limit`. Pages are fetched as they are needed.

    Raises Rejected, Unreachable.
    """
    query = {
        "state": state,
        "created_after": created_after and created_after.isoformat(),
        "created_before": created_before and created_before.isoformat(),
    }
    query |= {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
    return fetch_pages(Job, "/v1/jobs", query, limit)


def cancel(job: Job | str, *, tries: int = TRIES, timeout_s: float | None = None) -> Flow[Job]:
    """Cancel a job; a worker that renders it is asked to stop.

    `timeout_s` limits each of the `tries`; None: as for every call. Raises Rejected (409 if the job
    has ended), Unreachable.
    """
    request = Request("POST", job_path(job, "/cancel"), timeout_s=timeout_s)
    try:
        return (yield from fetch(Job, request, tries))
    except Rejected as error:
        if error.code != "job_already_ended" or not error.repeated:
            raise
        now = yield from get(job)
        if now.state != JobState.CANCELED:
            raise
        return now  # canceled by the try whose response was lost


def delete(job: Job | str) -> Flow[None]:
    """Remove a job's picture, clip and texts; cancels the job if it has not ended.

    Raises Rejected, Unreachable.
    """
    yield from remove(job_path(job), "job_deleted")


def timeline(job: Job | str) -> Flow[list[TimelineEntry]]:
    """Every state and hop of a job, oldest first. Raises Rejected, Unreachable."""
    return (yield from fetch_list(TimelineEntry, job_path(job, "/timeline")))


def wait(
    job: Job | str,
    on_update: Callable[[Job], None] = lambda job: None,
    timeout_s: float | None = None,
) -> Flow[Job]:
    """Poll until the job ends and return it; `on_update` is called with every response.

    A server that does not respond is given a minute. Raises WaitTimeout, Rejected, Unreachable.
    """
    started = responded = time.monotonic()
    wait_s = POLL_FIRST_S
    while True:
        try:
            now = yield from fetch(Job, Request("GET", job_path(job)), tries=1)
        except Unreachable:
            if time.monotonic() - responded > OUTAGE_S:
                raise
        else:
            responded = time.monotonic()
            on_update(now)
            if now.terminal:
                return now
        left_s = float("inf") if timeout_s is None else started + timeout_s - time.monotonic()
        if left_s <= 0:
            raise WaitTimeout(
                f"Job {id_of(job)} did not end within {timeout_s:g} s; it continues on the server."
            )
        yield Sleep(min(wait_s, left_s))
        wait_s = min(POLL_LAST_S, wait_s * POLL_GROWTH)


def download(job: Job | str, path: str | Path) -> Flow[Path]:
    """Download a succeeded job's clip to `path`, which changes only once the clip is complete.

    Raises Rejected, Unreachable and OSError.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        for n in range(1, TRIES + 1):
            # A signed URL expires, so every try asks for a fresh one.
            output = (yield from get(job)).output
            if output is None:
                raise Rejected(409, "job_has_no_video", "The job has no video.")
            if (yield from _save(output.url, output.size_bytes, part)):
                part.replace(path)
                return path
            if n < TRIES:
                yield Sleep(retry_delay_s(n))
        raise Unreachable(f"The clip of job {id_of(job)} could not be downloaded.")
    finally:
        part.unlink(missing_ok=True)


def _save(url: str, size_bytes: int, path: Path) -> Flow[bool]:
    """Write the content of `url` to `path`. False if another try may work."""
    try:
        response: httpx.Response = yield Open(Request("GET", url, signed=True))
        if not response.is_success:
            if response.status_code in RETRIED:
                return False
            raise unsuccessful(response)
        with path.open("wb") as file:
            while data := (yield Read()):
                yield Work(partial(file.write, data))
            return file.tell() == size_bytes
    except httpx.RequestError:
        return False


def id_of(job: Job | str) -> str:
    return job.id if isinstance(job, Job) else job


def job_path(job: Job | str, call: str = "") -> str:
    return f"/v1/jobs/{quoted(id_of(job))}{call}"


def _submission(image: Picture, prompt: str, options: SubmitOptions) -> Flow[dict[str, Any]]:
    """The body of a submit: a form that holds the picture, or JSON that names it."""
    fields = {"prompt": prompt} | without_none(options)
    if isinstance(image, Upload):
        return json_body(upload_id=str(image.id), **fields)
    if isinstance(image, str) and image.startswith("https://"):
        return json_body(image=image, **fields)
    data = yield from _data(image)
    return {
        "files": {"image": ("image", data)},
        "data": {name: _form_value(value) for name, value in fields.items()},
    }


def _data(image: str | Path | bytes | BinaryIO) -> Flow[bytes]:
    """All of the picture's bytes, since a request may have to be repeated."""
    if isinstance(image, bytes):
        return image
    read = Path(image).read_bytes if isinstance(image, str | Path) else image.read
    data: bytes = yield Work(read)
    return data


def _form_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value)
    return list(value) if isinstance(value, list | tuple) else str(value)
