"""Our processes on top of the services: how each is started, and when it is ready."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from scripts.stack.certificate import signing_certificate
from scripts.stack.data import ROOT, DataDir
from scripts.stack.errors import StackError
from scripts.stack.handover import HOME, PROVENANCE, REGIONS_FILE, hand_over
from scripts.stack.services import Services
from scripts.stack.supervisor import COMMANDS, Spec
from scripts.stack.user import User

REGIONS = ("us-east", "eu-west")
PROCESSES = ("api", "dispatcher", "gpu:us-east", "gpu:eu-west", "cpu", "flower")
# Further processes for the second region, if it has its own broker.
SECOND_BROKER = ("dispatcher:eu-west", "cpu:eu-west", "flower:eu-west")
RECEIVER = "receiver"  # the port on which a webhook receiver of the user's own may listen
READY_S = 120.0  # two workers import torch, load and render once, on two busy cores
# Its only user is whoever started it, or a benchmark.
UNLIMITED = {"SUBMITS_PER_MINUTE": "0", "UPLOAD_MB_PER_DAY": "0"}
FLOWER_USER = "admin"
# Flower's default buckets end at 10 s.
RENDER_BUCKETS = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 300)


class Stack:
    """The whole service on this machine, as a context manager.

    Process names: `api`, `dispatcher`, `gpu:REGION`, `cpu`, `flower`. Further ones of a kind have
    a suffix (`dispatcher:2`, `gpu:us-east:2`). One with a region in its name runs there
    (`dispatcher:eu-west`), all others in the first region. `open()` starts `processes`, `start()`
    any other. `env` is set for every process and overrides everything else. `restart=False` leaves
    a crashed process dead. `valkeys`: give each region its own Valkey as Redis and broker.
    For `data` and `environ` see Services. Not thread-safe.

    If root opens it, every process runs as the user nobody, except the reaper and `command()`.
    Where that user cannot, as in a repository in root's home, `say` gets a sentence and ours run
    as root.
    """

    def __init__(
        self,
        data: DataDir | Path | None = None,
        *,
        processes: Sequence[str] = PROCESSES,
        regions: Sequence[str] = REGIONS,
        rtt_ms: float = 80.0,
        valkeys: bool = False,
        env: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
        restart: bool = True,
        say: Callable[[str], None] | None = None,
    ):
        self.processes = tuple(processes)
        self._regions = tuple(regions)
        self._rtt_ms = rtt_ms
        self._extra = dict(env or {})
        self._environ = environ
        self._valkeys = {
            region: f"valkey:{region}" if n and valkeys else "valkey"
            for n, region in enumerate(self._regions)
        }
        self.services = Services(
            data,
            valkeys=sorted({*self._valkeys.values()} - {"valkey"}),
            environ=environ,
            restart=restart,
            say=say,
        )
        self.data = self.services.data
        self._supervisor = self.services.supervisor
        self._ports: dict[str, int] = {}
        self._say = say or (lambda _: None)
        self._user: User | None = None
        self.env: dict[str, str] = {}  # for every process

    def open(self, *, wait: bool = True) -> Self:
        """Start the services, migrate, start the processes, and wait until all are ready."""
        try:
            self.services.open()
            self._ports = self.data.ports(["api", "flower", RECEIVER])
            self.env = self._environment()
            self._user, problem = hand_over(self.data, self.env)
            if problem:
                self._say(f"Running as root: the user nobody cannot {problem}.")
            self._migrate()
            for name in self.processes:
                self.start(name, wait=False)
            if wait:
                self.wait_ready(*self.processes)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop the processes, then Valkey, then Postgres, all within 10 s."""
        self.services.close()

    def start(self, name: str, *, env: Mapping[str, str] | None = None, wait: bool = True) -> None:
        """Start one process unless it is running. `env` overrides the common environment."""
        self._supervisor.start(self._spec(name, env or {}))
        if wait:
            self.wait_ready(name)

    def stop(self, name: str) -> None:
        """Stop one process gracefully (SIGTERM) and wait for it."""
        self._supervisor.stop(name)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process and its children."""
        self._supervisor.kill(name, number)

    def pid(self, name: str) -> int:
        """A process's pid. Raises KeyError if it was never started."""
        return self._supervisor.pid(name)

    def running(self, name: str) -> bool:
        return self._supervisor.running(name)

    def log(self, name: str) -> Path:
        return self._supervisor.log(name)

    @property
    def url(self) -> str:
        """The API."""
        return f"http://127.0.0.1:{self._ports['api']}"

    @property
    def outbound_allow(self) -> str:
        """The private addresses that webhooks may go to, as `host:port,...`."""
        return self.env["OUTBOUND_ALLOW"]

    @property
    def flower_urls(self) -> list[str]:
        """The URL of each Flower; each shows one broker."""
        flowers = [name for name in self.processes if name.split(":")[0] == "flower"]
        return [self._url_of(name) for name in flowers]

    def internal_url(self, name: str) -> str:
        """A process's internal port: `/healthz`, `/readyz`, `/metrics`."""
        return f"http://127.0.0.1:{self._port(f'{name}:internal')}"

    def valkey_of(self, region: str) -> str:
        """The name of the Valkey that serves a region, for `kill` and `start`."""
        return self._valkeys[region]

    @property
    def flower_login(self) -> tuple[str, str]:
        return FLOWER_USER, self.data.secret("flower_password")

    def ready(self, name: str) -> bool:
        """Whether a process is working."""
        if not self.running(name):
            return False
        match name.split(":")[0]:
            case "api":
                return answers(f"{self._url_of(name)}/readyz")
            case "dispatcher" | "cpu":
                return answers(f"{self.internal_url(name)}/readyz")
            case "flower":
                return answers(f"{self._url_of(name)}/healthcheck")
            case "postgres" | "valkey":
                return self.services.ready(name)
            case "gpu":
                ready_file = self._supervisor.spec(name).ready_file
                return ready_file is not None and ready_file.exists()
        return True

    def wait_ready(self, *names: str, timeout_s: float = READY_S) -> None:
        """Wait until all of these are ready. Raises StackError, at once if one has given up."""
        deadline = time.monotonic() + timeout_s
        for name in names:
            while not self.ready(name):
                self._supervisor.check(name)
                if time.monotonic() > deadline:
                    line = self._supervisor.last_line(name)
                    raise StackError(f"{name} is not ready after {timeout_s:.0f} s: {line}")
                time.sleep(0.05)

    def api_key(self) -> str:
        """An API key named `demo`; the stored one if this database knows it. Raises StackError."""
        key = self.data.recall("api_key")
        if key is None or not answers(f"{self.url}/v1/jobs?limit=1", bearer=key):
            own = ("--name", "demo", "--admin", "--best-priority", "0")
            verb = ("keys", "create", *own)
            code, printed = self._stillmotion(verb, as_caller=False)
            if code != 0:
                raise StackError(f"No API key: {self._supervisor.last_line('stillmotion')}")
            key = printed.strip()
            self.data.keep("api_key", key)
        return key

    def command(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        stderr: int | None = None,
        timeout_s: float = 60.0,
    ) -> tuple[int, str]:
        """Run `stillmotion` in the repository's folder: (exit status, stdout).

        It runs as the caller, whose files it reads and writes. Its stderr goes to the log
        `stillmotion` unless a file descriptor is given.
        """
        return self._stillmotion(arguments, env, stderr, timeout_s)

    def _stillmotion(
        self,
        arguments: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        stderr: int | None = None,
        timeout_s: float = 60.0,
        *,
        as_caller: bool = True,
    ) -> tuple[int, str]:
        argv = ["-m", "stillmotion.cli", *map(str, arguments)]
        spec = self._python("stillmotion", argv, env, as_caller=as_caller)
        # Pass Ctrl-C on: `animate` then cancels its job while the API is still running.
        spec = replace(spec, stage=COMMANDS, stop_signal=signal.SIGINT)
        code, printed = self._supervisor.run(spec, timeout_s, stdout=subprocess.PIPE, stderr=stderr)
        return code, printed.decode()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _migrate(self) -> None:
        migrate = ["-m", "stillmotion.cli", "migrate"]
        code, _ = self._supervisor.run(self._python("migrate", migrate), timeout_s=120)
        if code != 0:
            raise StackError(f"The migration failed: {self._supervisor.last_line('migrate')}")

    def _environment(self) -> dict[str, str]:
        own_redis = {
            region: self.services.redis_urls[name]
            for region, name in self._valkeys.items()
            if name in self.services.redis_urls
        }
        regions_file = self.data.path / REGIONS_FILE
        regions_file.touch()
        regions_file.chmod(0o600)  # the URLs contain passwords
        regions_file.write_text(regions_toml(self._regions, self._rtt_ms, own_redis))
        profile = self._environ.get("MODEL_PROFILE") or "motion-small"
        search = [str(ROOT), self._environ.get("PYTHONPATH", "")]
        return {
            **signing_certificate(self.data.folder(PROVENANCE)),
            # Every address of a laptop is private, so without this no webhook could be tried there.
            "OUTBOUND_ALLOW": f"127.0.0.1:{self._ports[RECEIVER]}",
            **UNLIMITED,
            **self._environ,
            # Needed if the repository is read-only and so could not be installed.
            "PYTHONPATH": os.pathsep.join(filter(None, search)),
            **self.services.env,
            "REGION": self._regions[0],
            "REGIONS_FILE": str(regions_file),
            "PUBLIC_URL": self.url,
            "FLOWER_URL": next(iter(self.flower_urls), ""),
            "MODEL_PROFILE": profile,
            "SERVED_PROFILES": profile,
            **self._extra,
        }

    def _spec(self, name: str, env: Mapping[str, str]) -> Spec:
        """How to start the process with this name."""
        kind, *more = name.split(":")
        env = {"REGION": more[0], **env} if more and more[0] in self._regions else env
        if kind in ("api", "dispatcher", "cpu", "gpu"):
            env = {"INTERNAL_PORT": str(self._port(f"{name}:internal")), **env}
        match kind:
            case "api":
                bind = f"127.0.0.1:{self._port(name)}"
                argv = ["-m", "gunicorn", "app.wsgi:app", "-c", "python:app.gunicorn_conf"]
                return self._python(name, [*argv, "--bind", bind], env)
            case "dispatcher":
                return self._python(name, ["-m", "app.dispatcher"], env)
            case "cpu":
                return self._python(name, ["-m", "workers.cpu"], env)
            case "gpu" if "REGION" in env:
                ready_file = self.data.folder("ready") / name.replace(":", "-")
                workers = sum(each.startswith("gpu:") for each in self.processes)
                threads = max(1, (os.cpu_count() or 1) // max(1, workers))
                own = {"OMP_NUM_THREADS": str(threads), "READY_FILE": str(ready_file)}
                return self._python(name, ["-m", "workers.gpu"], {**own, **env}, ready_file)
            case "flower":
                return self._flower(name, env)
            case "postgres" | "valkey":
                return self._supervisor.spec(name)
        raise StackError(f"No such process: {name}.")

    def _flower(self, name: str, env: Mapping[str, str]) -> Spec:
        argv = ["-m", "celery", "-A", "app.broker.celery_app", "flower", "--address=127.0.0.1"]
        argv += [f"--port={self._port(name)}", "--read_only", "--purge_offline_workers=60"]
        # In the environment, because everybody can see a process's arguments.
        own = {
            "FLOWER_BASIC_AUTH": ":".join(self.flower_login),
            "FLOWER_TASK_RUNTIME_METRIC_BUCKETS": ",".join(map(str, RENDER_BUCKETS)),
        }
        return self._python(name, argv, {**own, **env})

    def _python(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        ready_file: Path | None = None,
        *,
        as_caller: bool = False,
    ) -> Spec:
        user, common = None if as_caller else self._user, self.env
        if user is not None:
            common = {name: value for name, value in self.env.items() if name[:4] != "XDG_"}
            common |= {"HOME": str(self.data.folder(HOME)), "USER": "nobody", "LOGNAME": "nobody"}
        return Spec(
            name=name,
            argv=[sys.executable, *argv],
            env={**common, **(env or {})},
            cwd=ROOT,
            ready_file=ready_file,
            user=user,
        )

    def _port(self, name: str) -> int:
        if name not in self._ports:
            self._ports.update(self.data.ports([name]))
        return self._ports[name]

    def _url_of(self, name: str) -> str:
        return f"http://127.0.0.1:{self._port(name)}"


def regions_toml(regions: Sequence[str], rtt_ms: float, redis_urls: Mapping[str, str]) -> str:
    """A REGIONS_FILE whose regions are all equally far from each other."""
    tables = []
    for region in regions:
        others = ", ".join(f"{other} = {rtt_ms:g}" for other in regions if other != region)
        tables.append(f'[[region]]\nname = "{region}"\nrtt_ms = {{ {others} }}\n')
        if region in redis_urls:
            tables[-1] += f'redis_url = "{redis_urls[region]}"\n'
    return "\n".join(tables)


def answers(url: str, *, bearer: str = "") -> bool:
    """Whether a GET returns 200 within two seconds. Ignores proxies in the environment."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=2)
    try:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
