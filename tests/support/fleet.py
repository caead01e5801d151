"""Real dispatcher and worker processes that tests can kill, stop and cut off."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

from app.broker.connections import connect, wake
from app.config.settings import Settings
from app.objects import objects_for
from app.store.session import Store
from tests.support import make, services

READY_S = 60.0


class Process:
    """One of our processes; `log` holds its lines."""

    def __init__(self, child: subprocess.Popen, log: Path, ready: Path | None):
        self._child = child
        self._log = log
        self._ready = ready

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def wait_exit(self, timeout_s: float) -> int:
        return self._child.wait(timeout=timeout_s)

    def wait_ready(self) -> "Process":
        services.wait_until(lambda: self._ready.exists(), self._child, READY_S)
        return self

    @property
    def log(self) -> list[dict]:
        return services.log_lines(self._log)

    def outcomes(self, job_id: UUID) -> list[str]:
        """How each attempt of a job ended, according to this worker."""
        return [
            line["outcome"]
            for line in self.log
            if line.get("event") == "attempt_ended" and line["job_id"] == str(job_id)
        ]


class Fleet:
    """A deployment on the test's own stores. All processes end with the fleet."""

    def __init__(self, settings: Settings, store: Store, directory: Path, stack: ExitStack):
        self.settings = settings
        self.store = store
        self._directory = directory
        self._stack = stack
        self._count = 0
        self.redis = connect(settings.redis_url, 2.0)
        self.owner = make.owner(store)
        self.objects = objects_for(settings)
        self.objects.put(make.INPUT_KEY, b"a noop worker does not look at it", "image/jpeg")

    def dispatcher(self, **changes: object) -> Process:
        return self._start("app.dispatcher", changes)

    def worker(self, region: str = "us-east", **changes: object) -> Process:
        """A noop worker unless `model_profile` says otherwise."""
        return self._start("workers.gpu", {"region": region, "model_profile": "noop"} | changes)

    def cpu_worker(self, **changes: object) -> Process:
        return self._start("workers.cpu", changes)

    def submit(self, **changes: object) -> UUID:
        job_id = make.submit(self.store, self.owner, **changes)
        wake(self.redis)
        return job_id

    def read(self, job_id: UUID):
        return make.read(self.store, job_id)

    def wait(self, job_id: UUID, *states: str, timeout_s: float = 30.0):
        """The job's row once it is in one of `states`."""

        def reached() -> bool:
            return self.read(job_id).state in states

        try:
            services.wait_until(reached, timeout_s=timeout_s)
        except TimeoutError:
            job = self.read(job_id)
            raise AssertionError(f"job is {job.state} after {timeout_s} s: {job}") from None
        return self.read(job_id)

    def _start(self, module: str, changes: dict[str, object]) -> Process:
        self._count += 1
        name = f"{module}-{self._count}"
        log, ready = self._directory / f"{name}.log", self._directory / f"{name}.ready"
        if module == "workers.gpu":
            changes = {"ready_file": ready} | changes
        with log.open("ab") as out:
            child = self._stack.enter_context(
                services.process(
                    [sys.executable, "-m", module],
                    env=services.environment(self.settings.model_copy(update=changes)),
                    cwd=services.ROOT,
                    stdout=out,
                    stderr=out,
                )
            )
        # A stopped process would not handle the signal that ends it.
        self._stack.callback(lambda: child.poll() is None and os.kill(child.pid, signal.SIGCONT))
        return Process(child, log, ready)


@contextmanager
def fleet(settings: Settings, store: Store, directory: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(settings, store, directory, stack)


def ends(job_id: UUID, *workers: Process, last: str) -> list[str]:
    """How each attempt of a job ended, according to these workers.

    A worker ends the row before it logs so. Waits until one of them has logged `last`.
    """

    def logged() -> list[str]:
        return [end for worker in workers for end in worker.outcomes(job_id)]

    wait_for(lambda: last in logged())
    return logged()


def wait_for(check: Callable[[], object], timeout_s: float = 30.0) -> float:
    """Seconds until `check()` is true. Raises TimeoutError."""
    start = time.monotonic()
    services.wait_until(check, timeout_s=timeout_s)
    return time.monotonic() - start
