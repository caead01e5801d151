"""`stillmotion animate`: what it prints, the clip, and its exit statuses."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from app.store.job import jobs
from scripts.benchmarks.harness.valve import Valve
from stillmotion import cli
from stillmotion.cli import ExitStatus
from tests.support import services
from tests.support.command import MP4, all_jobs

pytestmark = pytest.mark.usefixtures("deployed")


def test_animate_prints_the_clips_path_and_nothing_else(worker, photo_file, capsys):
    worker().may_finish.set()
    assert cli.run(["animate", str(photo_file), "wind"]) == ExitStatus.OK
    out, err = capsys.readouterr()
    assert out == "photo.mp4\n"
    assert (photo_file.parent / "here/photo.mp4").read_bytes() == MP4
    assert "succeeded step 4 of 4" in err


def test_animate_takes_an_output_and_every_option(worker, store, photo_file, tmp_path, capsys):
    worker().may_finish.set()
    target = tmp_path / "clip.mp4"
    options = "--seed 5 --frames 16 --fps 12 --size 128 --region us-east --policy strict --json"
    command = ["animate", str(photo_file), "-o", str(target), *options.split()]
    assert cli.run([*command, "--model", "motion-small"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["path"] == str(target)
    job = printed["job"]
    assert [job[name] for name in ("seed", "frames", "fps", "size")] == [5, 16, 12, 128]
    assert job["region"]["policy"] == "strict"
    assert target.read_bytes() == MP4


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("gently pan left, the helmet sways", "sway, pan left, gentle; ignored: helmet"),
        ("asdf qwer", "no motion words known: ambient"),
        ("nothing moves", "still"),
        ("she blinks, schwenk nach links", "pan left"),
        ("", None),
    ],
)
def test_animate_says_on_stderr_what_of_the_prompt_counts(worker, photo_file, capsys, prompt, line):
    worker().may_finish.set()
    assert cli.run(["animate", str(photo_file), prompt, "--json"]) == ExitStatus.OK
    out, err = capsys.readouterr()
    said = [each for each in err.splitlines() if each.startswith("understood: ")]
    assert said == ([] if line is None else [f"understood: {line}"])
    assert ("This model cannot make faces blink." in err) == ("blinks" in prompt)
    understood = json.loads(out)["job"]["prompt_understood"]
    assert understood["ambient"] == (prompt in ("", "asdf qwer"))


@pytest.mark.parametrize("colours", [True, False])
def test_on_a_terminal_there_is_a_live_bar_on_stderr(worker, photo_file, colours):
    working = worker()
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "stillmotion.cli", "animate", str(photo_file)],
        stdout=subprocess.PIPE,
        stderr=follower,
        env=os.environ
        | {"PYTHONPATH": str(services.ROOT), "TERM": "xterm", "COLUMNS": "100"}
        | ({} if colours else {"NO_COLOR": "1"}),
    )
    os.close(follower)
    seen = b""
    assert working.begun.wait(30)
    while b"step 3 of 4" not in seen:
        seen += os.read(leader, 4096)
    working.may_finish.set()
    with contextlib.suppress(OSError):
        while more := os.read(leader, 4096):
            seen += more
    assert child.stdout.read() == b"photo.mp4\n"
    assert child.wait(20) == 0
    assert b"\xe2\x94\x81" in seen  # the bar
    assert bool(re.search(rb"\x1b\[[0-9;]*[39][0-7]m", seen)) is colours


def test_a_job_that_fails_is_status_1(worker, photo_file, capsys):
    worker(fail=True).may_finish.set()
    assert cli.run(["animate", str(photo_file)]) == ExitStatus.JOB_FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert "failed: The picture cannot be moved." in err
    assert not (photo_file.parent / "here/photo.mp4").exists()


def test_a_job_canceled_by_someone_else_is_status_5(worker, store, photo_file, capsys):
    def cancel():
        while not (rows := all_jobs(store)):
            time.sleep(0.05)
        with store.begin() as tx:
            jobs.cancel(tx, rows[0].id, owner_id=rows[0].owner_id)

    thread = threading.Thread(target=cancel)
    thread.start()
    assert cli.run(["animate", str(photo_file)]) == ExitStatus.CANCELED
    thread.join()
    assert "canceled" in capsys.readouterr().err


def animate(photo_file, **env):
    """The command as a process of its own, as soon as its job waits."""
    child = subprocess.Popen(
        [sys.executable, "-m", "stillmotion.cli", "animate", str(photo_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(services.ROOT)} | env,
        text=True,
    )
    assert child.stderr.readline().startswith("queued")
    return child


def interrupted(child):
    """What it says after Ctrl-C."""
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (ExitStatus.INTERRUPTED, "")
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_ctrl_c_cancels_the_job_and_is_status_130(store, photo_file):
    said = interrupted(animate(photo_file))
    [job] = all_jobs(store)
    assert (job.state, said) == ("canceled", f"Job {job.id} is canceled.")


def test_ctrl_c_says_that_a_worker_must_stop_first(store, photo_file, worker):
    child = animate(photo_file)
    assert worker().begun.wait(20)
    said = interrupted(child)
    [job] = all_jobs(store)
    assert (job.state, job.cancel_requested) == ("processing", True)
    assert said == f"Job {job.id} was told to stop; its worker does so at its next step."


def test_ctrl_c_without_a_server_does_not_claim_that_the_job_is_canceled(store, photo_file, server):
    """The server is cut off after the submit, silently: packets are lost, nothing is refused."""
    valve = Valve(f"{server}/")
    try:
        child = animate(photo_file, STILLMOTION_SERVER=valve.through.rstrip("/"))
        valve.silence(new=True)
        started = time.monotonic()
        said = interrupted(child)
        took_s = time.monotonic() - started
    finally:
        valve.close()
    [job] = all_jobs(store)
    assert job.state == "queued"
    assert said.startswith("The server did not confirm") and "may still be running" in said
    assert f"`stillmotion jobs cancel {job.id}`" in said
    assert took_s < 25, "the user gets the prompt back"


def test_a_timeout_is_status_3_and_leaves_the_job(store, photo_file, capsys):
    assert cli.run(["animate", str(photo_file), "--timeout", "0.3"]) == ExitStatus.UNREACHABLE
    assert "it continues on the server" in capsys.readouterr().err
    assert [job.state for job in all_jobs(store)] == ["queued"]
