"""Two regions under a steady load, in which things can be broken. Every process is scraped."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from uuid import UUID

import httpx
import psycopg
from PIL import Image

from app import metrics, telemetry
from app.broker.publish import Publisher
from app.config.settings import Settings
from app.dispatcher.deliveries import SWEEP_EVERY_S
from app.domain.job.messages import HOUSEKEEPING_QUEUE, SWEEP
from app.internal_port import Checks, Readiness, Server
from app.internal_port import start as start_port
from app.store import keys
from app.store.session import Store
from scripts.benchmarks.harness.storage import Storage
from scripts.benchmarks.harness.valve import Valve
from scripts.stack.certificate import signing_certificate
from tests.support import services
from tests.support.fleet import Fleet, Process
from tests.support.prometheus import FASTER, Watch
from tests.support.receiver import Receiver
from workers.gpu import device

HOME, OTHER = "us-east", "eu-west"
REGIONS = """
[[region]]
name = "us-east"
rtt_ms = {{ eu-west = 20 }}
[[region]]
name = "eu-west"
redis_url = "{redis_url}"
rtt_ms = {{ us-east = 20 }}
"""
CLIENTS, PAUSE_S = 3, 0.8


class FakeNvml:
    """NVIDIA's bindings with one idle device. No GPU is at hand where these tests run."""

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, name):
        return name

    def nvmlDeviceGetMemoryInfo(self, handle):
        return type("Memory", (), {"used": 2 * 2**30, "total": 80 * 2**30})

    def nvmlDeviceGetUtilizationRates(self, handle):
        return type("Rates", (), {"gpu": 37})


class Site:
    """Processes by name; each keeps its internal port when it is started again."""

    def __init__(self, settings: Settings, store: Store, directory: Path, watch: Watch, stack):
        self._stack: ExitStack = stack
        self.directory = directory
        self.watch = watch
        self.storage = Storage(directory)
        picture = io.BytesIO()
        Image.new("RGB", (96, 64), "gray").save(picture, "JPEG")
        self._picture = picture.getvalue()
        self.receiver = Receiver()
        stack.callback(self.receiver.close)
        self.database = Valve(settings.database_url)
        self.redis = Valve(settings.redis_url)
        stack.callback(self.database.close)
        stack.callback(self.redis.close)
        regions = directory / "regions.toml"
        regions.write_text(REGIONS.format(redis_url=self.redis.through))
        self.direct_url = settings.database_url
        self.settings = settings.model_copy(
            update={
                "public_url": f"http://127.0.0.1:{services.free_port()}",
                "objects_url": self.storage.url,
                "database_url": self.database.through,
                "regions_file": regions,
                "region": HOME,
                "served_profiles": ("noop",),
                "model_profile": "noop",
                "model_steps": 3,
                "noop_step_s": 0.05,
                "outbound_allow": self.receiver.address,
                "controller_period_s": 1.0,
                "report_every_s": 0.5,
            }
        )
        # Fields that are computed once are kept by a copy.
        self.settings = Settings(**self.settings.model_dump())
        self.fleet = stack.enter_context(_fleet(self.settings, store, directory))
        with store.begin() as tx:
            self.key = keys.create(tx, "client", best_priority=0)[1]
            self.admin_key = keys.create(tx, "ops", scopes=("admin", "jobs"))[1]
        self.running: dict[str, Process] = {}
        self._ports: dict[str, int] = {}

    # Processes.

    def start(self, name: str) -> Process | None:
        """api, dispatcher-N, gpu-REGION-N, or cpu."""
        kind, _, rest = name.partition("-")
        port = self._ports.setdefault(name, services.free_port())
        own = {"internal_port": port}
        if kind == "api":
            self._start_api(self.settings.model_copy(update=own))
            return None
        if kind == "dispatcher":
            process = self.fleet.dispatcher(**own)
        elif kind == "cpu":
            process = self.fleet.cpu_worker(**own)
        else:
            process = self.fleet.worker(rest.rpartition("-")[0], **own)
        self.running[name] = process
        return process

    def _start_api(self, settings: Settings) -> None:
        bind = settings.public_url.removeprefix("http://")
        command = [sys.executable, "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "-b", bind]
        out = self._stack.enter_context((self.directory / "api.log").open("ab"))
        self._api = self._stack.enter_context(
            services.process(
                [*command, "app.wsgi:app"],
                env=services.environment(settings),
                cwd=services.ROOT,
                stdout=out,
                stderr=out,
            )
        )
        self._stack.callback(self.signal_api, signal.SIGCONT)

    def signal_api(self, number: signal.Signals) -> None:
        """Signal every process of the API."""
        os.killpg(self._api.pid, number)

    def wait_up(self) -> None:
        """Return once every process that was started is ready."""
        for name, port in self._ports.items():
            if name == "api" or self.running[name].alive:
                services.wait_until(
                    lambda port=port: httpx.get(f"http://127.0.0.1:{port}/readyz").is_success,
                    timeout_s=90,
                )

    def port(self, name: str) -> int:
        return self._ports[name]

    def scrape_all(self) -> None:
        """Tell Prometheus where they are."""
        kinds = {"api": "api", "dispatcher": "dispatcher", "gpu": "gpu-worker", "cpu": "cpu-worker"}
        ports: dict[str, list[int]] = {}
        for name, port in self._ports.items():
            ports.setdefault(kinds[name.partition("-")[0]], []).append(port)
        ports["gpu-worker"].append(self._fake_gpu())
        for kind, each in ports.items():
            self.watch.scrape(kind, *each)

    def _fake_gpu(self) -> int:
        """One more worker's port, whose device is a fake."""
        device.show_device(FakeNvml(), "GPU-fake")
        config = self.settings.model_copy(update={"internal_port": services.free_port()})
        server = start_port(config, Checks(lambda: Readiness("ok", {}), telemetry.GPU_WORKER))
        assert isinstance(server, Server)
        self._stack.callback(server.close)
        return config.internal_port

    def expiring_worker(self, valid_s: float) -> Process:
        """A worker of OTHER whose certificate ends soon after it has started."""
        folder = self.directory / f"certificate-{time.monotonic_ns()}"
        folder.mkdir()
        signed = signing_certificate(folder, timedelta(seconds=valid_s))
        own = {name.lower(): path for name, path in signed.items()}
        port = self._ports.setdefault("gpu-eu-west-unsigned", services.free_port())
        process = self.fleet.worker(OTHER, internal_port=port, **own).wait_ready()
        self.running["gpu-eu-west-unsigned"] = process
        self.scrape_all()
        return process

    # Load.

    def load(self) -> None:
        """Submit jobs until the end: of both homes, of all classes, with a webhook."""
        stopping = Event()
        threads = [
            Thread(target=self._client, args=(number, stopping)) for number in range(CLIENTS)
        ]
        threads.append(Thread(target=self._sweep, args=(stopping,)))
        for thread in threads:
            thread.start()
        self._stack.callback(lambda: [thread.join(20) for thread in threads])
        self._stack.callback(stopping.set)

    def _sweep(self, stopping: Event) -> None:
        """Ask for sweeps as often as time runs faster here."""
        with contextlib.closing(Publisher(self.settings)) as publisher:
            while not stopping.wait(SWEEP_EVERY_S / FASTER):
                publisher.send(SWEEP, [], queue=HOUSEKEEPING_QUEUE)

    def raised(self, *alerts: str) -> bool:
        """Whether one of these fires, or its receiver has not heard of its end."""
        told = [self.watch.notifications.states(alert)[-1:] for alert in alerts]
        return bool(self.watch.firing() & set(alerts)) or ["firing"] in told

    def _client(self, number: int, stopping: Event) -> None:
        count = number
        with httpx.Client(base_url=self.settings.public_url, timeout=15) as client:
            while not stopping.wait(PAUSE_S):
                count += 1
                with contextlib.suppress(httpx.HTTPError, KeyError):
                    answer = self.submit(client, priority=count % 3)
                    client.get(f"/v1/jobs/{answer.json()['id']}", headers=self.headers)
                    client.get("/v1/jobs/none", headers=self.headers)  # strangers ask for anything

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def submit(self, client: httpx.Client | None = None, **fields: object) -> httpx.Response:
        """Submit one job through the API."""
        values = {"model": "noop", "webhook_url": self.receiver.url("/hook")} | fields
        files = {"image": ("one.jpg", self._picture)}
        where = client or httpx
        url = "/v1/jobs" if client else f"{self.settings.public_url}/v1/jobs"
        data = {name: str(value) for name, value in values.items()}
        return where.post(url, headers=self.headers, data=data, files=files, timeout=15)

    def command(self, *arguments: str) -> str:
        """Run the operator's command with the admin key."""
        environment = services.environment(self.settings) | {
            "STILLMOTION_SERVER": self.settings.public_url,
            "STILLMOTION_API_KEY": self.admin_key,
        }
        done = subprocess.run(
            [sys.executable, "-m", "stillmotion.cli", *arguments],
            env=environment,
            cwd=services.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def connect(self) -> psycopg.Connection:
        """A direct connection to the database."""
        return psycopg.connect(self.direct_url)

    def orphan(self, **changes: object) -> UUID:
        """A job that no load waits for."""
        return self.fleet.submit(**changes)


@contextmanager
def _fleet(settings: Settings, store: Store, directory: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(settings, store, directory, stack)


@contextmanager
def site(settings: Settings, store: Store, directory: Path, watch: Watch) -> Iterator[Site]:
    """The site, up and under load."""
    with ExitStack() as stack:
        found = Site(settings, store, directory, watch, stack)
        for name in ("api", "dispatcher-1", "cpu", "gpu-us-east-1", "gpu-eu-west-1"):
            found.start(name)
        found.wait_up()
        found.scrape_all()
        answer = found.submit()
        assert answer.status_code == 202, answer.text
        found.load()
        yield found


assert metrics  # registers what the fake worker shows
