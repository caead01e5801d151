"""What hostile code could still do in a decoder that it has taken over: nothing."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from app.pictures.normaliser import Normaliser
from tests.support.services import ROOT

# Runs in the place of the decoder's loop, after it has confined itself. Standard output is a pipe.
HOSTILE = """
import ctypes, json, os, resource, signal, socket, sys, threading
sys.path.insert(0, {root!r})
from app.pictures.decoder import seccomp, server, walls
if not {filtered}:
    seccomp.install = lambda: False  # as on a kernel without it
server.warm_up()
lacking = walls.confine(2**30)
libc = ctypes.CDLL(None, use_errno=True)
os.close(0)  # makes room for a descriptor below a limit of 3

def tried(attempt):
    try:
        return repr(attempt())
    except Exception as error:
        return type(error).__name__

def thread():
    ran = []
    other = threading.Thread(target=ran.append, args=(1,))
    other.start()
    other.join()
    return ran

def child():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid

def called(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
    return name

results = {{
    "open": tried(lambda: os.open("/etc/passwd", os.O_RDONLY)),
    "environ of the parent": tried(lambda: os.open(f"/proc/{{os.getppid()}}/environ", os.O_RDONLY)),
    "own environ": tried(lambda: os.open("/proc/self/environ", os.O_RDONLY)),
    "write a file": tried(lambda: os.open("/tmp/hostile", os.O_CREAT | os.O_WRONLY)),
    "socket": tried(lambda: socket.socket()),
    "socket pair": tried(lambda: socket.socketpair()),
    "pipe": tried(os.pipe),
    "duplicate": tried(lambda: os.dup(1)),
    "raise the limit": tried(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))),
    "fork": tried(child),
    "exec": tried(lambda: os.execv("/bin/true", ["true"])) if {filtered} else "not tried",
    "signal the parent": tried(lambda: os.kill(os.getppid(), 0)),
    "trace the parent": tried(lambda: called("ptrace", 16, os.getppid(), None, None)),
    "become root": tried(lambda: os.setuid(0)),
    "list /": tried(lambda: os.listdir("/")),
    "delete": tried(lambda: os.unlink({victim!r})),
    "move away": tried(lambda: os.chdir("/tmp")),
    "limit its CPU time": tried(lambda: walls.limit_cpu(2)),
    "thread": tried(thread),
}}
os.write(1, json.dumps([lacking, tried(os.getuid), results]).encode())
os._exit(0)
"""
# What the walls other than the filter do not hold; a user without rights does little with it.
NEEDS_FILTER = {"fork", "exec", "list /", "move away", "limit its CPU time", "thread"}
WORKS = {"limit its CPU time": "None", "thread": "[1]"}
REFUSED = {"OSError", "ValueError", "PermissionError", "FileNotFoundError", "BlockingIOError"}


def hostile(tmp_path: Path, *, filtered: bool):
    victim = tmp_path / "victim"
    victim.touch()
    program = HOSTILE.format(root=str(ROOT), filtered=filtered, victim=str(victim))
    run = subprocess.run(
        [sys.executable, "-I", "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    assert victim.exists()
    return json.loads(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")
def test_hostile_code_in_a_decoder_reaches_nothing(tmp_path):
    lacking, _, results = hostile(tmp_path, filtered=True)
    assert lacking == []
    assert {name: results.pop(name) for name in WORKS} == WORKS
    assert len(results) == 17
    assert "not tried" not in results.values()
    assert set(results.values()) <= REFUSED, results


@pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")
def test_without_the_filter_the_other_walls_stand(tmp_path):
    lacking, user, results = hostile(tmp_path, filtered=False)
    assert lacking == ["filter"]
    if os.getuid() != 0:
        # The decoder is the tests' own user, who may signal this process and delete the file.
        NEEDS_FILTER.update({"signal the parent", "delete"})
    else:
        assert int(user) > 1_000_000_000
    held = {name: result for name, result in results.items() if name not in NEEDS_FILTER}
    assert len(held) > 10
    assert set(held.values()) <= REFUSED, results


def test_a_decoder_lacks_no_wall_here(capfd, photo):
    """Linux on a common processor: what CI and servers are."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("the filter knows two processors")
    with Normaliser() as normaliser:
        normaliser.normalise(photo)
    assert "picture_walls_missing" not in capfd.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="dumpable is Linux's")
def test_the_parent_s_environment_belongs_to_root_from_the_first_picture_on(photo):
    program = """
import os, sys
from app.pictures.normaliser import Normaliser
import ctypes
mine = "/proc/self/environ"
os.setresgid(1234, 1234, 1234), os.setresuid(1234, 1234, 1234)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable, as a service that began as this user
before = os.stat(mine).st_uid
normaliser = Normaliser()
normaliser.normalise(sys.stdin.buffer.read())
print(before, os.stat(mine).st_uid, os.stat(f"/proc/{os.getpid()}/environ").st_uid)
normaliser.close()
"""
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    run = subprocess.run(
        [sys.executable, "-c", program], input=photo, stdout=subprocess.PIPE, cwd=ROOT, timeout=60
    )
    before, *after = run.stdout.split()
    assert (before, after) == (b"1234", [b"0", b"0"])
