"""A peer as a system to measure: its processes, and how its burst is held and drained."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from scripts.benchmarks.client import Client
from scripts.benchmarks.flushes import Chain
from scripts.benchmarks.systems import DRAIN_S
from scripts.stack import StackError
from scripts.stack.data import ROOT
from scripts.stack.stack import Stack, answers
from scripts.stack.supervisor import Spec

HERE = Path(__file__).parent
CLIP = ROOT / "workers/engines/noop/noop.mp4"
READY_S = 300.0
STOP_S = 30.0
POLL_S = 0.02  # interval between checks for finished jobs


class Peer(ABC):
    """A peer as a context manager that runs it with the supervisor and data directory of a stack.

    Raises StackError if it does not start.
    """

    name: ClassVar[str]  # of its environment; also the prefix of its figures
    durability: ClassVar[str]
    chain: ClassVar[Chain]  # what a job flushes, one after the other, before it is seen done
    ready_path: ClassVar[str]  # returns 200 once it is ready

    def __init__(self, python: Path, stack: Stack):
        self.bin = python.parent
        self.folder = stack.data.folder(self.name)
        self.port = stack.data.ports([self.name])[self.name]
        self._supervisor = stack.services.supervisor
        self._hold = self.folder / "hold"
        self._undo = ExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def processes(self) -> Mapping[str, Sequence[str | Path]]:
        """The arguments of each process, by a name of its own in the stack."""

    @abstractmethod
    def env(self) -> dict[str, str]: ...

    @abstractmethod
    def client(self) -> Client: ...

    @abstractmethod
    def last_done(self, ids: list[str]) -> float | None:
        """When the last of these jobs was done, in Unix seconds; None while some are not."""

    def resources(self) -> AbstractContextManager[None]:
        """What the processes need: made before they start, removed after they ended."""
        return nullcontext()

    def ready(self) -> bool:
        return answers(self.url + self.ready_path)

    def spec(self, name: str, argv: Sequence[str | Path]) -> Spec:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        places = {"PEER_CLIP": str(CLIP), "PEER_HOLD": str(self._hold)}
        env = {**inherited, **places, **self.env()}
        return Spec(name, argv, env, self.folder, grace_s=STOP_S)

    def hold(self) -> None:
        """Create the file that makes renders wait."""
        self._hold.touch()

    def drain(self, ids: list[str]) -> float:
        start = time.time()
        self._hold.unlink()
        while (end := self.last_done(ids)) is None:
            if time.time() - start > DRAIN_S:
                raise RuntimeError(f"{len(ids)} jobs did not finish within {DRAIN_S:.0f} s")
            time.sleep(POLL_S)
        return end - start

    def __enter__(self) -> Self:
        self._hold.unlink(missing_ok=True)
        with ExitStack() as undo:
            undo.enter_context(self.resources())
            for name, argv in self.processes().items():
                self._supervisor.start(self.spec(name, argv))
                undo.callback(self._supervisor.stop, name)
            undo.callback(self._hold.unlink, missing_ok=True)  # first: held renders do not end
            self._wait_ready()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not self.ready():
            for name in self.processes():
                self._supervisor.check(name)
            if time.monotonic() > deadline:
                line = self._supervisor.last_line(next(iter(self.processes())))
                raise StackError(f"{self.name} is not ready after {READY_S:.0f} s: {line}")
            time.sleep(0.1)
