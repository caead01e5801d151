"""A client that costs little itself."""

import http.client
import json
import time
from functools import lru_cache
from urllib.parse import urlsplit

from scripts.stack.data import ROOT

PHOTO = ROOT / "scripts/assets/cat.jpg"
POLL_S = 0.002
BOUNDARY = "stillmotion-bench"


class Client:
    """One keep-alive connection; http.client, so that little is measured but the server.

    `timeout_s` bounds each wait for the server. Requests raise RuntimeError for an answer that is
    an error, OSError and HTTPException for none; the next one connects again.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float = 30.0):
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

    def request(self, method: str, path: str, body: bytes | None = None) -> dict:
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
        return json.loads(payload)

    def submit(self, **fields: str) -> str:
        """Submit the photo with these form fields; the job's id."""
        return self.request("POST", "/v1/jobs", form(**fields))["id"]

    def wait(self, job_id: str) -> None:
        while not (job := self.request("GET", f"/v1/jobs/{job_id}"))["terminal"]:
            time.sleep(POLL_S)
        if job["state"] != "succeeded":
            raise RuntimeError(f"job {job_id} {job['state']}: {job['error']}")


@lru_cache
def form(**fields: str) -> bytes:
    """A multipart body: the photo, and these fields."""
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
