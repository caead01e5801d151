"""A client with little overhead of its own."""

import http.client
import json
import time
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from scripts.stack.data import ROOT

PHOTO = ROOT / "scripts/assets/cat.jpg"
POLL_S = 0.002
JOB_S = 300.0
BOUNDARY = "stillmotion-bench"


class Client:
    """One keep-alive connection, by http.client so that little but the server is measured.

    `timeout_s` bounds each wait for the server. Requests raise RuntimeError for an error response
    and OSError or HTTPException for a missing one; the next request reconnects.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = 30.0):
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

    def request(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        headers = self._headers | (self._form if body else {})
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            payload = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {payload[:200]!r}")
        read: dict[str, Any] = json.loads(payload)
        return read

    def submit(self, **fields: str) -> str:
        """Submit the photo with these form fields. Returns the job's id."""
        return str(self.request("POST", "/v1/jobs", form(**fields))["id"])

    def done(self, job_id: str) -> bool:
        """Whether a job has succeeded. Raises RuntimeError if it ended any other way."""
        job = self.request("GET", f"/v1/jobs/{job_id}")
        if job["terminal"] and job["state"] != "succeeded":
            raise RuntimeError(f"job {job_id} {job['state']}: {job['error']}")
        return bool(job["terminal"])

    def wait(self, job_id: str) -> None:
        """Poll until a job has succeeded. Raises RuntimeError if it fails, or takes JOB_S."""
        deadline = time.monotonic() + JOB_S
        while not self.done(job_id):
            if time.monotonic() > deadline:
                raise RuntimeError(f"job {job_id} is not done after {JOB_S:.0f} s")
            time.sleep(POLL_S)


@lru_cache
def form(**fields: str) -> bytes:
    """A multipart body with the photo and these fields."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f"--{BOUNDARY}",
        'Content-Disposition: form-data; name="image"; filename="a.jpg"',
        "Content-Type: image/jpeg",
        "\r\n",
    )
    picture = "\r\n".join(head).encode() + PHOTO.read_bytes()
    return b"".join([*parts, picture, f"\r\n--{BOUNDARY}--\r\n".encode()])
