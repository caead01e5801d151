"""Bodies made to cost time or memory are refused cheaply, by a real server."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support import calls, services

MB = 1_000_000
# As sent, these took 83 s and 1.3 GB (a million fields) or 20 s and 1.8 GB (parameters).
SECONDS = 20.0  # the machine may be busy; it is the server's own seconds that count
CPU_SECONDS = 2.0
GROWTH_MB = 100


class Process:
    """The server's own process: its memory and its processor time."""

    def __init__(self, url: str):
        bind = url.removeprefix("http://")
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        found = [pid for pid in pids if bind in self._read(pid, "cmdline")]
        [self.pid] = [pid for pid in found if self._stat(pid)[1] in map(str, found)]

    @staticmethod
    def _read(pid: int, name: str) -> str:
        try:
            return Path(f"/proc/{pid}/{name}").read_text()
        except OSError:
            return ""  # it has just ended

    def _stat(self, pid: int) -> list[str]:
        return self._read(pid, "stat").rpartition(")")[2].split()

    def cpu_s(self) -> float:
        ticks = sum(map(int, self._stat(self.pid)[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        [line] = [x for x in self._read(self.pid, "status").splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 1000

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@pytest.fixture
def process(server):
    return Process(server)


def fields(count: int) -> bytes:
    return b",".join(b'"f%d":1' % n for n in range(count))


def form(*texts: tuple[str, bytes]) -> bytes:
    part = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return b"".join(part % (name.encode(), text) for name, text in texts) + b"--b--\r\n"


JSON, FORM = "application/json", "multipart/form-data; boundary=b"
BOMBS = {
    "a million fields": (JSON, lambda: b"{%b}" % fields(MB), 413),
    "32 MB of fields": (JSON, lambda: b"{%b}" % fields(2_650_000), 413),
    "256 kB of fields": (JSON, lambda: b"{%b}" % fields(20_000), 422),
    "labels": (JSON, lambda: b'{"image":"data:,","metadata":{%b}}' % fields(20_000), 422),
    "lists": (JSON, lambda: b'{"allowed_regions":[%b1]}' % (b"1," * 100_000), 422),
    "depth": (JSON, lambda: b'{"image":' + b"[" * 200_000, 400),
    "parameters": (JSON, lambda: b'{"image":"data:a/b' + b";a=b" * 8 * MB + b';base64,"}', 422),
    "quotes": (JSON, lambda: b'{"image":"data:,' + b'\\"' * 16 * MB + b'"}', 413),
    "escapes": (JSON, lambda: b'{"image":"data:;base64,' + b"\\/" * 8 * MB + b'"}', 422),
    "percent": (JSON, lambda: b'{"image":"data:;base64,' + b"%41" * 5 * MB + b'"}', 422),
    "labels in a form": (FORM, lambda: form(("metadata", b"{%b}" % fields(20_000))), 422),
    "texts in a form": (FORM, lambda: form(*((f"f{n}", b"x" * 250_000) for n in range(95))), 413),
    "parts of a form": (FORM, lambda: form(*((f"f{n}", b"x") for n in range(100_000))), 413),
}


@pytest.mark.parametrize(("content_type", "make", "status"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_for_little(server, process, api_key, content_type, make, status):
    body = make()
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": content_type}
    process.forget_peak()
    before_mb, before_s, began = process.peak_mb(), process.cpu_s(), time.monotonic()
    answer = httpx.post(f"{server}/v1/jobs", content=body, headers=headers, timeout=60)
    took_s = time.monotonic() - began
    assert answer.status_code == status
    assert len(answer.json().get("errors", [])) <= 20
    assert process.peak_mb() - before_mb < GROWTH_MB
    assert process.cpu_s() - before_s < CPU_SECONDS
    assert took_s < SECONDS


def test_large_data_uris_at_once_do_not_add_up(server, process, api_key, store):
    """Eight of 16 MB: a picture in JSON used to cost four times its size, for every client."""
    picture = b"\xff\xd8\xff" + os.urandom(MB) * 12
    body = b'{"image":"%b"}' % calls.data_uri(picture).encode()
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": JSON}
    process.forget_peak()
    before_mb = process.peak_mb()

    def submit(_):
        answer = httpx.post(f"{server}/v1/jobs", content=body, headers=headers, timeout=120)
        return answer.status_code, answer.json()["code"]

    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(submit, range(8)))
    # The decoder refuses them, or is too busy to.
    assert {status for status, _ in answers} <= {415, 422, 503}, answers
    assert process.peak_mb() - before_mb < 200
    assert calls.rows_in(store) == 0
    services.wait_until(lambda: httpx.get(f"{server}/healthz").is_success)
