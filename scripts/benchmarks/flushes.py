"""The physical bound of a job's latency: its flushes in a row, with one network round trip each.

No system that keeps the same things can be faster on the same disk, unless it flushes them at the
same time.
"""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

OBJECT_BYTES = 60_000  # a picture
PAGE_BYTES = 8192  # Postgres writes its log in pages
REPEATS, ROUND_TRIPS = 100, 500


@dataclass(frozen=True)
class Chain:
    """What is flushed one after the other between a submit and the state that shows it done."""

    objects: int  # new files, with their names
    commits: int  # of a log that exists already


@dataclass
class FlushTimes:
    """Samples in seconds, of one directory and of loopback TCP."""

    objects: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)

    def measure(self, folder: Path) -> None:
        """Add samples. `folder` is on the disk in question; nothing stays in it."""
        log, new = folder / "flush.log", folder / "flush.object"
        try:
            with log.open("wb", buffering=0) as file:
                file.write(bytes(PAGE_BYTES * REPEATS))
                os.fsync(file.fileno())
                pages = itertools.count()
                self.commits += timed(lambda: _commit(file.fileno(), next(pages)), REPEATS)
            self.objects += timed(lambda: _store(new), REPEATS)
        finally:
            log.unlink(missing_ok=True)
            new.unlink(missing_ok=True)
        self.round_trips += round_trips(ROUND_TRIPS)

    @property
    def object_ms(self) -> float:
        return middle(self.objects) * 1000

    @property
    def commit_ms(self) -> float:
        return middle(self.commits) * 1000

    @property
    def round_trip_ms(self) -> float:
        return middle(self.round_trips) * 1000

    def bound_ms(self, chain: Chain) -> float:
        """The least time of a job with these flushes."""
        flushes = chain.objects * self.object_ms + chain.commits * self.commit_ms
        return flushes + (chain.objects + chain.commits) * self.round_trip_ms


def middle(samples: list[float]) -> float:
    """The mean without the lowest and the highest tenth.

    Some disks flush at two speeds: a median would jump from one to the other.
    """
    cut = len(samples) // 10
    return mean(sorted(samples)[cut : len(samples) - cut])


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each repeat."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def round_trips(count: int) -> list[float]:
    """Seconds from sending one byte over loopback TCP to its echo."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        echo = threading.Thread(target=_echo, args=(server,), daemon=True)
        echo.start()
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            times = timed(lambda: _call(client), count)
        echo.join(timeout=5)
    return times


def _call(client: socket.socket) -> None:
    client.sendall(b"x")
    client.recv(1)


def _echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while byte := connection.recv(1):
            connection.sendall(byte)


def _commit(log: int, page: int) -> None:
    """Write a page of a file that has its full size and flush it, as Postgres does."""
    os.pwrite(log, os.urandom(PAGE_BYTES), page * PAGE_BYTES)
    os.fdatasync(log)


def _store(path: Path) -> None:
    """Write a new file under its name and flush it once, as our storage does."""
    partial = path.with_suffix(".partial")
    with partial.open("wb", buffering=0) as file:
        file.write(os.urandom(OBJECT_BYTES))
        partial.rename(path)
        os.fsync(file.fileno())
    path.unlink()
