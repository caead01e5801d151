"""`stillmotion jobs`: shown, listed, canceled and followed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from stillmotion import cli
from stillmotion.cli import ExitStatus
from tests.support import calls, services
from tests.support.command import all_jobs

pytestmark = pytest.mark.usefixtures("deployed")


def test_jobs_can_be_shown_listed_and_canceled(api, photo, capsys):
    job_id = calls.submit(api, photo, prompt="a\nb").get_json()["id"]
    capsys.readouterr()  # the API's own log
    assert cli.run(["jobs", "show", job_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == job_id
    assert cli.run(["jobs", "show", job_id]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert {"state     queued no worker serves its model now", "prompt    a b"} <= set(shown)
    assert "motion    no motion words known: ambient" in shown
    assert cli.run(["jobs", "cancel", job_id]) == 0
    assert capsys.readouterr().out == "canceled\n"
    assert cli.run(["jobs", "list", "--state", "canceled"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.split()[:2] == [job_id, "canceled"]
    assert line.endswith("a b")
    assert cli.run(["jobs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "canceled"
    assert cli.run(["jobs", "cancel", job_id]) == ExitStatus.REJECTED
    capsys.readouterr()
    assert cli.run(["jobs", "delete", job_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": job_id, "deleted": True}
    assert cli.run(["jobs", "show", job_id]) == ExitStatus.REJECTED


def test_a_job_is_followed_to_its_end(api, photo, worker, capsys):
    job_id = calls.submit(api, photo).get_json()["id"]
    capsys.readouterr()  # the API's own log
    worker().may_finish.set()
    assert cli.run(["jobs", "watch", job_id, "--json"]) == ExitStatus.OK
    out, err = capsys.readouterr()
    seen = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert (seen[0]["event"], seen[0]["data"]["state"]) == ("status", "queued")
    assert (seen[-1]["event"], seen[-1]["data"]["state"]) == ("completed", "succeeded")
    assert cli.run(["jobs", "watch", job_id]) == ExitStatus.OK
    out, err = capsys.readouterr()
    assert out == "succeeded\n"
    assert err.splitlines()[-1] == "succeeded step 4 of 4"


def test_following_a_canceled_job_is_status_5_and_ctrl_c_leaves_the_job_alone(api, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]

    def watch():
        return subprocess.Popen(
            [sys.executable, "-m", "stillmotion.cli", "jobs", "watch", job_id],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(services.ROOT)},
            text=True,
        )

    left, stayed = watch(), watch()
    for child in (left, stayed):
        assert child.stderr.readline().startswith("queued")
    left.send_signal(signal.SIGINT)
    out, err = left.communicate(timeout=30)
    assert (left.returncode, out) == (ExitStatus.INTERRUPTED, "")
    assert "Traceback" not in err
    assert [job.state for job in all_jobs(store)] == ["queued"]
    api.post(f"/v1/jobs/{job_id}/cancel")
    out, err = stayed.communicate(timeout=30)
    assert (stayed.returncode, out) == (ExitStatus.CANCELED, "canceled\n")
