"""The stack's supervisor on real processes: restarts, orderly ends, logs."""

import itertools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from scripts.stack import StackError
from scripts.stack.data import ROOT
from scripts.stack.supervisor import LOG_BYTES, Supervisor
from tests.support.processes import PARENT, SLEEPER, marked, running, stub, until

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.fixture
def supervisor(tmp_path) -> Iterator[Supervisor]:
    said: list[str] = []
    started = Supervisor(tmp_path, say=said.append)
    started.said = said
    yield started
    started.close()


def test_a_crashed_process_restarts_with_growing_backoff(supervisor, tmp_path):
    code = """
        import sys, time
        with open(sys.argv[1], "a") as file:
            file.write(f"{time.time()}\\n")
        sys.exit(3)
    """
    starts = tmp_path / "starts"
    supervisor.start(stub("crasher", code, tmp_path, str(starts)))
    assert until(lambda: starts.exists() and len(starts.read_text().splitlines()) == 4)
    times = [float(line) for line in starts.read_text().splitlines()]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert [wait >= least for wait, least in zip(waits, (0.25, 0.5, 1.0), strict=True)] == [
        True
    ] * 3
    assert supervisor.said[0] == "crasher ended with exit status 3; restarting in 0.25 s."


def test_a_process_that_cannot_start_is_reported_with_its_last_log_line(supervisor, tmp_path):
    supervisor.start(stub("loser", "raise SystemExit('REGION is missing.')", tmp_path))

    def given_up() -> bool:
        try:
            supervisor.check("loser")
        except StackError as error:
            return "loser ended with exit status 1: REGION is missing. (" in str(error)
        return False

    assert until(given_up)


def test_a_stopped_process_stays_stopped_and_takes_its_children_along(supervisor, tmp_path):
    mark = f"mark-{tmp_path.name}-{time.time_ns()}"
    supervisor.start(stub("with-child", PARENT, tmp_path, mark))
    assert until(lambda: len(marked(mark)) == 2)
    supervisor.stop("with-child")
    assert until(lambda: not marked(mark), 1)
    time.sleep(0.5)
    assert not supervisor.running("with-child")


def test_without_restart_a_killed_process_stays_dead(tmp_path):
    supervisor = Supervisor(tmp_path, restart=False)
    try:
        supervisor.start(stub("fine", SLEEPER, tmp_path))
        supervisor.kill("fine")
        time.sleep(0.5)
        assert not supervisor.running("fine")
        with pytest.raises(StackError, match="fine ended with SIGKILL"):
            supervisor.check("fine")
    finally:
        supervisor.close()


def test_a_process_outlives_the_thread_that_started_it(supervisor, tmp_path):
    starter = Thread(target=supervisor.start, args=[stub("fine", SLEEPER, tmp_path)])
    starter.start()
    starter.join()
    pid = supervisor.pid("fine")
    time.sleep(0.3)
    assert supervisor.running("fine")
    assert supervisor.pid("fine") == pid


def is_past_guard(pid: int) -> bool:
    """Whether the guard has exec'd the process; during the exec it has no command line."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return bool(command) and b"guard.py" not in command


@needs_proc
def test_a_killed_reaper_is_replaced_and_learns_what_is_running(tmp_path):
    supervisor = Supervisor(tmp_path, restart=False)
    pids: list[int] = []

    def start(name: str) -> None:
        supervisor.start(stub(name, SLEEPER, tmp_path))
        pids.append(supervisor.pid(name))
        assert until(lambda: is_past_guard(pids[-1]))

    start("first")
    supervisor._reaper.kill()
    supervisor._reaper.wait()
    start("second")
    os.write(supervisor._pipe, b"stop\n")  # to the reaper alone, without the supervisor's help
    assert until(lambda: not any(map(running, pids)))
    supervisor.close()


def test_logs_do_not_grow_without_bound(supervisor, tmp_path):
    code = """
        import sys, time
        sys.stdout.write(("x" * 999 + "\\n") * (int(sys.argv[1]) // 1000 + 10))
        sys.stdout.flush()
        time.sleep(600)
    """
    supervisor.start(stub("chatty", code, tmp_path, str(LOG_BYTES)))
    assert until((tmp_path / "chatty.log.1").exists)
    assert until(lambda: (tmp_path / "chatty.log").stat().st_size == 0)
    assert (tmp_path / "chatty.log.1").stat().st_size > LOG_BYTES


@needs_proc
def test_a_parent_killed_in_the_middle_of_a_start_leaves_nothing(tmp_path):
    """The process must be known to the reaper however early its parent dies."""
    mark = f"mark-{tmp_path.name}"
    script = f"""
        import os, pathlib, signal, sys, threading, time
        from scripts.stack.supervisor import Spec, Supervisor
        folder, delay = pathlib.Path(sys.argv[1]), float(sys.argv[2])
        supervisor = Supervisor(folder)
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        for number in range(100):
            argv = [sys.executable, "-I", "-S", "-c", {SLEEPER!r}, sys.argv[3]]
            supervisor.start(Spec(str(number), argv, {{}}, folder, grace_s=1.0))
    """
    for delay_s in (0.0, 0.01, 0.03, 0.1):
        arguments = [str(tmp_path), str(delay_s), mark]
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *arguments],
            env={"PYTHONPATH": str(ROOT)},
        )
        time.sleep(0.3)  # by now a guard that was just forked has exec'd the sleeper
        assert until(lambda: not marked(mark))
