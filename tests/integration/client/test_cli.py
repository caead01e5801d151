"""The command: what is on stdout, the one sentence on stderr, and every exit status."""

import contextlib
import importlib.metadata
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from uuid import UUID

import click
import pytest

from app.api.process.key_cache import REMEMBER_S
from app.broker import progress
from app.broker.connections import connect
from app.domain.errors import Permanent
from app.objects import open_objects
from app.store import keys
from app.store.job import attempts, jobs
from stillmotion import cli
from stillmotion.cli import ExitStatus, root
from stillmotion.cli.groups import ServerCommand
from tests.support import calls, make, services

MP4 = b"not really an MP4, but bytes of one"


@pytest.fixture
def photo_file(photo, tmp_path, monkeypatch):
    """A photo in a directory of its own, which is the current one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    return path


@pytest.fixture
def deployed(server, api_key, monkeypatch):
    """The variables that a user of this server would set."""
    monkeypatch.setenv("STILLMOTION_SERVER", server)
    monkeypatch.setenv("STILLMOTION_API_KEY", api_key)


class Worker(threading.Thread):
    """Takes one job through its life by the same statements as a real worker."""

    def __init__(self, settings, store, *, fail=False):
        super().__init__(daemon=True)
        self.settings, self.store, self.fail = settings, store, fail
        self.objects = open_objects(
            settings.objects_url, secret_key=settings.secret_key, public_url=settings.public_url
        )
        self.may_finish = threading.Event()
        self.begun = threading.Event()
        self.start()

    def run(self):
        placed = []
        while not placed:
            time.sleep(0.05)
            with self.store.begin() as tx:
                placed = make.place(tx, "motion-small", "us-east", "us-east", ["t"])
        [one] = placed
        with self.store.begin() as tx:
            make.begin(tx, one.job_id, one.fence)
        progress.report(connect(self.settings.redis_url, 2.0), one.job_id, one.fence, 3, 4)
        self.begun.set()
        self.may_finish.wait(20)
        with self.store.begin() as tx:
            if self.fail:
                error = Permanent("The picture cannot be moved.")
                attempts.fail(
                    tx,
                    one.job_id,
                    1,
                    error,
                    delay_s=0,
                    next_region="us-east",
                    lease_token=make.LEASE,
                )
                return
        key = f"outputs/{one.job_id}.mp4"
        self.objects.put(key, MP4, "video/mp4")
        with self.store.begin() as tx:
            attempts.finish(tx, one.job_id, one.fence, key, len(MP4), lease_token=make.LEASE)


@pytest.fixture
def worker(settings, store):
    made = []

    def make_worker(**options):
        worker = Worker(settings, store, **options)
        made.append(worker)
        return worker

    yield make_worker
    for worker in made:
        worker.may_finish.set()
        worker.join(25)


def one_sentence(text: str) -> bool:
    return text.startswith("stillmotion: ") and text.count("\n") == 1 and "Traceback" not in text


@pytest.mark.usefixtures("deployed")
def test_animate_prints_the_clips_path_and_nothing_else(worker, photo_file, capsys):
    worker().may_finish.set()
    assert cli.run(["animate", str(photo_file), "wind"]) == ExitStatus.OK
    out, err = capsys.readouterr()
    assert out == "photo.mp4\n"
    assert (photo_file.parent / "here/photo.mp4").read_bytes() == MP4
    assert "succeeded step 4 of 4" in err


@pytest.mark.usefixtures("deployed")
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


@pytest.mark.usefixtures("deployed")
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


@pytest.mark.usefixtures("deployed")
def test_a_job_that_fails_is_status_1(worker, photo_file, capsys):
    worker(fail=True).may_finish.set()
    assert cli.run(["animate", str(photo_file)]) == ExitStatus.JOB_FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert "failed: The picture cannot be moved." in err
    assert not (photo_file.parent / "here/photo.mp4").exists()


@pytest.mark.usefixtures("deployed")
def test_a_job_canceled_by_someone_else_is_status_5(worker, store, photo_file, capsys):
    def cancel():
        while not (rows := _jobs(store)):
            time.sleep(0.05)
        with store.begin() as tx:
            jobs.cancel(tx, rows[0].id, owner_id=rows[0].owner_id)

    thread = threading.Thread(target=cancel)
    thread.start()
    assert cli.run(["animate", str(photo_file)]) == ExitStatus.CANCELED
    thread.join()
    assert "canceled" in capsys.readouterr().err


def _jobs(store):
    with store.autocommit() as conn:
        return conn.execute(jobs.jobs.select()).fetchall()


@pytest.mark.usefixtures("deployed")
def test_ctrl_c_cancels_the_job_and_is_status_130(store, photo_file):
    child = subprocess.Popen(
        [sys.executable, "-m", "stillmotion.cli", "animate", str(photo_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(services.ROOT)},
        text=True,
    )
    assert child.stderr.readline().startswith("queued")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (ExitStatus.INTERRUPTED, "")
    assert "Traceback" not in err
    assert [job.state for job in _jobs(store)] == ["canceled"]


@pytest.mark.usefixtures("deployed")
def test_a_timeout_is_status_3_and_leaves_the_job(store, photo_file, capsys):
    assert cli.run(["animate", str(photo_file), "--timeout", "0.3"]) == ExitStatus.UNREACHABLE
    assert "it continues on the server" in capsys.readouterr().err
    assert [job.state for job in _jobs(store)] == ["queued"]


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["animate", "none.jpg"], 2, "does not exist"),
        (["animate", "{photo}", "--frames", "many"], 2, "not a valid integer"),
        (["animate", "{photo}", "--policy", "near"], 2, "near"),
        (["animate", "{photo}", "--server", "ftp://x"], 2, "http://host:port"),
        (["animate", "{photo}", "--server", "nonsense"], 2, "http://host:port"),
        (["animate", "{photo}", "--key", "ключ"], 2, "contains characters"),
        (["animate", "{photo}", "-o", "no/such/dir/x.mp4"], 2, "there is no directory"),
        (["animate", "{photo}", "-o", "{photo}"], 2, "would overwrite the picture"),
        (["animate"], 2, "Missing argument"),
        (["nonsense"], 2, "No such command"),
        (["animate", "{photo}", "--key", "sm_wrong"], 4, "(invalid_api_key)"),
        (["animate", "{photo}", "--region", "mars"], 4, "(unknown_region)"),
        (["animate", "{photo}", "--frames", "1000"], 4, "(invalid_field)"),
        (["animate", "{photo}", "x" * 10_000], 4, "(prompt_too_long)"),
        (["animate", "{text}"], 4, "(not_an_image)"),
        (["jobs", "show", "nonsense"], 4, "(job_not_found)"),
        (["jobs", "cancel", "../x"], 4, "(not_found)"),
        (["jobs", "watch", "nonsense"], 4, "(job_not_found)"),
        (["jobs", "delete", "nonsense"], 4, "(job_not_found)"),
        (["webhooks", "update", "x"], 2, "--enable"),
        (["completion", "csh"], 2, "csh"),
    ],
)
def test_errors_are_one_sentence_and_a_status(photo_file, store, capsys, arguments, status, words):
    text = photo_file.with_name("text.jpg")
    text.write_text("hello")
    names = {"photo": photo_file, "text": text}
    given = [argument.format(**names) for argument in arguments]
    assert cli.run(given) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert one_sentence(err), err
    assert words in err
    assert calls.rows_in(store) == 0
    assert photo_file.stat().st_size > 50_000


def test_an_unreachable_server_is_status_3(photo_file, monkeypatch, capsys):
    monkeypatch.setattr("stillmotion.wire.BACKOFF_CAP_S", 0.02)
    address = f"http://127.0.0.1:{services.free_port()}"
    arguments = ["animate", str(photo_file), "--server", address, "--key", "k"]
    assert cli.run(arguments) == ExitStatus.UNREACHABLE
    assert one_sentence(capsys.readouterr().err)


def test_a_missing_key_names_its_variable(photo_file, capsys):
    assert cli.run(["animate", str(photo_file)]) == ExitStatus.USAGE
    assert "STILLMOTION_API_KEY" in capsys.readouterr().err


@pytest.mark.usefixtures("deployed")
def test_jobs_can_be_shown_listed_and_canceled(api, photo, capsys):
    job_id = calls.submit(api, photo, prompt="a\nb").get_json()["id"]
    capsys.readouterr()  # the API's own log
    assert cli.run(["jobs", "show", job_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == job_id
    assert cli.run(["jobs", "show", job_id]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert {"state     queued next", "prompt    a b"} <= set(shown)
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


@pytest.mark.usefixtures("deployed")
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


@pytest.mark.usefixtures("deployed")
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
    assert [job.state for job in _jobs(store)] == ["queued"]
    api.post(f"/v1/jobs/{job_id}/cancel")
    out, err = stayed.communicate(timeout=30)
    assert (stayed.returncode, out) == (ExitStatus.CANCELED, "canceled\n")


def test_a_created_key_works_until_it_is_revoked(anonymous, database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert cli.run(["keys", "create", "--name", "ci"]) == 0
    out, err = capsys.readouterr()
    key = out.removesuffix("\n")
    assert key.startswith("sm_")
    assert len(key) == 46
    headers = {"Authorization": f"Bearer {key}"}
    assert anonymous.get("/v1/jobs", headers=headers).status_code == 200
    key_id = str(UUID(err.split()[1]))
    capsys.readouterr()  # the API's own log
    assert cli.run(["keys", "list"]) == 0
    assert capsys.readouterr().out == f"{key_id}  jobs        ci\n"
    assert cli.run(["keys", "revoke", key_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": key_id, "revoked": True}
    assert cli.run(["keys", "list"]) == 0
    assert capsys.readouterr().out == ""
    time.sleep(REMEMBER_S)
    assert anonymous.get("/v1/jobs", headers=headers).status_code == 401
    assert cli.run(["keys", "revoke", key_id]) == ExitStatus.USAGE


LIMITS = {
    "max_concurrency": 2,
    "submits_per_minute": 30,
    "upload_mb_per_day": 500,
    "webhooks_in_flight": 3,
    "best_priority": 0,
}


def limit_options(limits):
    return [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]


def test_a_key_is_created_with_its_limits_and_shows_them(store, database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert cli.run(["keys", "create", "--name", "ci", *limit_options(LIMITS), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    with store.autocommit() as conn:
        assert keys.find(conn, made.pop("key")).limits == LIMITS
    assert made == {"id": made["id"], "name": "ci", "scopes": ["jobs"], **LIMITS}
    assert cli.run(["keys", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made
    wrong = ["--max-concurrency=-1", "--submits-per-minute=x", "--best-priority=3"]
    for option in wrong:
        assert cli.run(["keys", "create", "--name", "x", option]) == ExitStatus.USAGE


def test_a_key_without_limits_says_which_defaults_it_has(database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert cli.run(["keys", "create", "--name", "ci", "--upload-mb-per-day", "0"]) == 0
    [_, shown] = capsys.readouterr().err.splitlines()
    assert shown == (
        "limits concurrency: KEY_CONCURRENCY (unlimited unless set);"
        " submits per minute: SUBMITS_PER_MINUTE (300 unless set);"
        " MB of uploads per day: unlimited;"
        " webhooks in flight: WEBHOOKS_IN_FLIGHT (8 unless set); best priority: 1"
    )


def test_limits_of_a_key_are_changed_one_by_one(store, database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    with store.begin() as tx:
        key_id, _ = keys.create(tx, "ci", **LIMITS)
    change = ["keys", "update", str(key_id), "--submits-per-minute", "default"]
    assert cli.run([*change, "--webhooks-in-flight=0", "--json"]) == 0
    changed = LIMITS | {"submits_per_minute": None, "webhooks_in_flight": 0}
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"id": str(key_id), "name": "ci", "scopes": ["jobs"], **changed}
    with store.begin() as tx:
        assert keys.get(tx, key_id).limits == changed
        keys.revoke(tx, key_id)
    assert cli.run(["keys", "update", str(key_id), "--best-priority=1"]) == ExitStatus.USAGE


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("nonsense", ExitStatus.CONFIG),
        ("postgresql://app@127.0.0.1:1/none", ExitStatus.UNREACHABLE),
    ],
)
def test_a_wrong_or_unreachable_database_is_one_sentence(url, status, capsys):
    assert cli.run(["keys", "create", "--name", "x", "--database-url", url]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert one_sentence(err)


def test_a_database_without_our_tables_is_a_configuration_error(database_url, store, capsys):
    with store.autocommit() as conn:
        conn.exec_driver_sql("DROP DATABASE IF EXISTS bare")
        conn.exec_driver_sql("CREATE DATABASE bare")
    bare = database_url.rpartition("/")[0] + "/bare"
    arguments = ["keys", "create", "--name", "x", "--database-url", bare]
    assert cli.run(arguments) == ExitStatus.CONFIG
    assert "alembic upgrade head" in capsys.readouterr().err


def test_the_help_lists_every_exit_status(capsys):
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    for status in ExitStatus:
        assert any(line.split()[:1] == [str(status.value)] for line in text.splitlines()), status


def _commands(group, path=("stillmotion",)):
    for name, command in group.commands.items():
        here = (*path, name)
        if isinstance(command, ServerCommand):
            command = command.load(" ".join(here))
        if isinstance(command, click.Group):
            yield from _commands(command, here)
        else:
            yield here, command


def test_every_command_has_json():
    without = {
        path
        for path, command in _commands(root.cli)
        if not any("--json" in option.opts for option in command.params)
    }
    assert without == {("stillmotion", "completion")}  # it prints a script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell, monkeypatch, capsys):
    assert cli.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_STILLMOTION_COMPLETE={shell}_complete" in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, text=True, check=True)
    monkeypatch.setenv("_STILLMOTION_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "stillmotion jobs wa")
    monkeypatch.setenv("COMP_CWORD", "wa" if shell == "fish" else "2")
    with pytest.raises(SystemExit) as ended:
        cli.run([])
    assert ended.value.code == 0
    assert "watch" in capsys.readouterr().out


def test_an_installed_package_can_add_a_command(monkeypatch, capsys):
    point = importlib.metadata.EntryPoint("wave", f"{__name__}:wave", "stillmotion.commands")
    real = importlib.metadata.entry_points

    def entry_points(**wanted):
        if wanted.get("group") == point.group and wanted.get("name", "wave") == "wave":
            return importlib.metadata.EntryPoints([point])
        return real(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert cli.run(["wave"]) == 0
    assert capsys.readouterr().out == "hello\n"


@click.command()
def wave():
    click.echo("hello")
