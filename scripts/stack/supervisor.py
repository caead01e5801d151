"""Runs processes: log files, restarts with backoff, an orderly end however the parent ends."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, RLock, Thread

from scripts.stack.errors import StackError

HERE = Path(__file__).parent
TICK_S = 0.05
BACKOFF_S, BACKOFF_CAP_S = 0.25, 30.0
STEADY_S = 30.0  # after running this long, the next crash counts as the first
LOG_BYTES = 10 * 2**20
CLOSE_S = 15.0  # more than the sum of the stages' grace times

# The stages in the order in which they end, with grace times: less than 10 s in total.
COMMANDS, PROCESSES, VALKEY, POSTGRES = range(4)
GRACE_S = (1.5, 4.5, 1.0, 2.5)


def python(*argv: str | Path) -> list[str]:
    """An interpreter without site packages, which starts in 20 ms."""
    return [sys.executable, "-I", "-S", *map(str, argv)]


@dataclass(frozen=True)
class Spec:
    """One process to keep running.

    `grace_s` defaults to the stage's. `user` is the (uid, gid) to run as. `ready_file` is removed
    before each start, so if it exists, the current process touched it.
    """

    name: str
    argv: Sequence[str | Path]
    env: Mapping[str, str]
    cwd: Path
    stage: int = PROCESSES
    stop_signal: int = signal.SIGTERM
    grace_s: float | None = None
    user: tuple[int, int] | None = None
    ready_file: Path | None = None

    @property
    def grace(self) -> float:
        return GRACE_S[self.stage] if self.grace_s is None else self.grace_s

    @property
    def ending(self) -> list[str]:
        """The reaper's arguments for ending it: stage, signal, seconds."""
        return [str(self.stage), str(int(self.stop_signal)), str(self.grace)]


@dataclass
class Child:
    spec: Spec
    process: subprocess.Popen[bytes]
    should_run: bool = True  # False: an exit is not a crash
    started: float = field(default_factory=time.monotonic)
    crashes: int = 0  # in a row
    restart_at: float | None = None
    buried: bool = False  # its exit was noticed and its group cleaned up


def backoff_s(crashes: int) -> float:
    """Seconds to wait before the next start, after `crashes` (>= 1) in a row."""
    return min(BACKOFF_CAP_S, BACKOFF_S * 2.0 ** min(crashes - 1, 30))


class Supervisor:
    """Starts processes and keeps them running. Thread-safe.

    `restart=False` leaves a crashed process dead, for fault tests. `say` is called with one
    sentence per crash. `held_fd` stays open in the reaper, so a lock on it lasts until the last
    process is gone.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        held_fd: int | None = None,
        restart: bool = True,
        say: Callable[[str], None] | None = None,
    ):
        self.log_dir = log_dir
        self._held = [] if held_fd is None else [held_fd]
        self._restart = restart
        self._say = say or (lambda _: None)
        self._lock = RLock()
        self._children: dict[str, Child] = {}
        self._pipe = -1
        self._reaper: subprocess.Popen[bytes] | None = None
        self._closed = Event()
        self._watcher = Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def start(self, spec: Spec) -> None:
        """Start a process unless it is running. Raises StackError once closed."""
        with self._lock:
            child = self._children.get(spec.name)
            if child is not None and child.process.poll() is None:
                return
            if child is not None:
                self._bury(child)
            self._children[spec.name] = Child(spec, self._spawn(spec))

    def run(
        self,
        spec: Spec,
        timeout_s: float,
        *,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> tuple[int, bytes]:
        """Run a process to completion: (exit code, output if `stdout` is PIPE).

        Raises StackError after `timeout_s`. Like every other process, it ends with the stack.
        """
        with self._lock:
            child = Child(spec, self._spawn(spec, stdout, stderr), should_run=False)
            self._children[spec.name] = child
        try:
            output, _ = child.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.stop(spec.name)
            raise StackError(f"{spec.name} took longer than {timeout_s:.0f} s.") from None
        return child.process.returncode, output or b""

    def stop(self, name: str) -> None:
        """Stop one process as its spec says and wait for it."""
        with self._lock:
            child = self._children[name]
            child.should_run, child.restart_at = False, None
        if child.process.poll() is None:
            self._signal(child, child.spec.stop_signal, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(child.spec.grace)
        with self._lock:
            self._bury(child)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process and its children. If it dies, that counts as a crash."""
        with self._lock:
            process = self._children[name].process
            if process.poll() is None:
                os.killpg(process.pid, number)

    def running(self, name: str) -> bool:
        with self._lock:
            child = self._children.get(name)
            return child is not None and child.process.poll() is None

    def pid(self, name: str) -> int:
        """A process's pid, which is also its group's. Raises KeyError if it was never started."""
        with self._lock:
            return self._children[name].process.pid

    def spec(self, name: str) -> Spec:
        with self._lock:
            return self._children[name].spec

    def check(self, name: str) -> None:
        """Raise StackError if a process that should come up has given up or keeps crashing."""
        with self._lock:
            child = self._children[name]
            code = child.process.poll()
            given_up = child.restart_at is None or child.crashes >= 3
            if code is None or not child.buried or not given_up:
                return
        raise StackError(f"{name} ended with {describe(code)}: {self.last_line(name)}")

    def log(self, name: str) -> Path:
        return self.log_dir / f"{name.replace(':', '-')}.log"

    def last_line(self, name: str) -> str:
        """The last line of a process's log, for a message."""
        lines = self.log(name).read_text(errors="replace").strip().splitlines()
        return f"{lines[-1][:500] if lines else 'no output'} ({self.log(name)})"

    def close(self) -> None:
        """End everything stage by stage, within the sum of the stages' grace times."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()  # nothing starts from here on
            for child in self._children.values():
                child.should_run, child.restart_at = False, None
            children = list(self._children.values())
            self._tell("stop\n")
        if self._reaper is not None:
            self._wait(self._reaper, children)
        with self._lock:
            for child in children:
                self._bury(child)
            if self._pipe >= 0:
                os.close(self._pipe)
                self._pipe = -1

    def _wait(self, reaper: subprocess.Popen[bytes], children: list[Child]) -> None:
        deadline = time.monotonic() + CLOSE_S
        while reaper.poll() is None and time.monotonic() < deadline:
            for child in children:
                child.process.poll()  # collects zombies
            time.sleep(TICK_S / 2)

    def _spawn(
        self, spec: Spec, stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.Popen[bytes]:
        if self._closed.is_set():
            raise StackError("The stack is stopping.")
        self._ensure_reaper()
        if spec.ready_file is not None:
            spec.ready_file.unlink(missing_ok=True)
        user = "-" if spec.user is None else "{}:{}".format(*spec.user)
        guard = python(HERE / "guard.py", str(self._pipe), *spec.ending, user)
        with self.log(spec.name).open("ab") as log:
            return subprocess.Popen(
                [*guard, *map(str, spec.argv)],
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=stderr or log,
                pass_fds=[self._pipe],
                start_new_session=True,
            )

    def _ensure_reaper(self) -> None:
        if self._reaper is not None and self._reaper.poll() is None:
            return
        if self._pipe >= 0:
            os.close(self._pipe)
        read_end, self._pipe = os.pipe()
        self._reaper = subprocess.Popen(
            python(HERE / "reaper.py"),
            cwd="/",
            env={},
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            pass_fds=self._held,
            start_new_session=True,
        )
        os.close(read_end)
        for child in self._children.values():
            if child.process.poll() is None:
                self._tell(f"+ {child.process.pid} {' '.join(child.spec.ending)}\n")

    def _tell(self, line: str) -> None:
        if self._pipe >= 0:
            with contextlib.suppress(BrokenPipeError):  # the next start makes a new reaper
                os.write(self._pipe, line.encode())

    def _signal(self, child: Child, *numbers: int) -> None:
        """Signal only the leader: gunicorn and Celery pass signals on to their children."""
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.process.pid, number)

    def _bury(self, child: Child) -> None:
        """Clean up what is left of a process's group, once."""
        if child.buried:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        child.buried = True
        self._tell(f"- {child.process.pid}\n")

    def _watch(self) -> None:
        ticks = 0
        while not self._closed.wait(TICK_S):
            with self._lock:
                if self._closed.is_set():
                    return
                for child in list(self._children.values()):
                    self._attend(child)
            ticks += 1
            if ticks % 40 == 0:
                self._rotate_logs()

    def _attend(self, child: Child) -> None:
        """Notice an exit, and restart the process when its backoff is over."""
        now = time.monotonic()
        code = child.process.poll()
        if code is None:
            return
        if not child.buried:
            self._bury(child)
            if not child.should_run:
                return
            child.crashes = 1 if now - child.started >= STEADY_S else child.crashes + 1
            if not self._restart:
                return
            wait_s = backoff_s(child.crashes)
            child.restart_at = now + wait_s
            self._say(f"{child.spec.name} ended with {describe(code)}; restarting in {wait_s:g} s.")
        elif child.restart_at is not None and now >= child.restart_at:
            child.started, child.restart_at = now, now + BACKOFF_CAP_S  # if it cannot be spawned
            with contextlib.suppress(OSError):
                child.process = self._spawn(child.spec)
                child.restart_at, child.buried = None, False

    def _rotate_logs(self) -> None:
        """Keep one old log. Truncating in place loses lines written meanwhile but needs no pipe, so
        the processes can go on logging when this one is dead."""
        for path in self.log_dir.glob("*.log"):
            with contextlib.suppress(OSError):  # a full disk must not stop the watch thread
                if path.stat().st_size > LOG_BYTES:
                    shutil.copyfile(path, path.with_suffix(".log.1"))
                    os.truncate(path, 0)


def describe(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
