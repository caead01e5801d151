"""SIGTERM while a process starts: it has nothing to finish."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.benchmarks.processes import cpu_s
from tests.support import services


def may_unshare():
    tried = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True)
    return tried.returncode == 0


def first_process(config, log, module):
    """A process as the first one of a container; returns it and its pid out here."""
    services.need("unshare", shutil.which("unshare"))
    services.need("the right to unshare", may_unshare())
    with log.open("wb") as out:
        child = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", module],
            env=services.environment(config),
            cwd=services.ROOT,
            stdout=out,
            stderr=out,
        )
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    services.wait_until(lambda: children.read_text().split(), child)
    return child, int(children.read_text().split()[0])


def handles_sigterm(pid):
    [mask] = [
        line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigCgt:")
    ]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("module", ["workers.gpu", "workers.cpu", "app.dispatcher"])
def test_the_first_process_of_a_container_ends_while_it_loads(change, tmp_path, module):
    config = change(model_profile="noop", noop_warm_up_s=60.0)
    child, pid = first_process(config, tmp_path / "log", module)
    try:
        services.wait_until(lambda: handles_sigterm(pid), child, timeout_s=20)
        os.kill(pid, signal.SIGTERM)
        assert child.wait(5) == 0
    finally:
        child.kill()
        child.wait()


def test_a_worker_that_warms_up_ends_at_once(change, tmp_path):
    config = change(model_profile="noop", noop_warm_up_s=60.0)
    child, pid = first_process(config, tmp_path / "log", "workers.gpu")
    try:
        services.wait_until(lambda: handles_sigterm(pid) and rests(pid), child, timeout_s=60)
        os.kill(pid, signal.SIGTERM)
        assert child.wait(5) == 0
    finally:
        child.kill()
        child.wait()


def rests(pid):
    """Whether it has imported everything, and sleeps."""
    before = cpu_s(pid)
    time.sleep(1.0)
    return cpu_s(pid) == before > 0.3
