"""A real Prometheus and Alertmanager with the files of infra/, and a receiver of alerts.

Time runs faster for the rules: every duration in them is divided, so that a window of an hour is
one of a minute. `promtool test rules` covers the windows as they are.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import httpx
import yaml

from tests.support import services

FILES = services.ROOT / "infra/prometheus"
RULES = services.ROOT / "infra/alerts"
FASTER = 60
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def faster(duration: str) -> str:
    """A duration of Prometheus, FASTER times shorter; at least a second."""
    seconds = int(duration[:-1]) * _UNITS[duration[-1]]
    return "0s" if not seconds else f"{max(1, seconds // FASTER)}s"


def faster_rules(text: str, changes: dict[str, str]) -> str:
    """A rules file with short windows, and with `changes` to its thresholds."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} is in the rules {text.count(old)} times"
        text = text.replace(old, new)
    text = re.sub(r"\[(\d+[smhd])\]", lambda found: f"[{faster(found[1])}]", text)
    return re.sub(r"for: (\d+[smhd])", lambda found: f"for: {faster(found[1])}", text)


def without_budgets(text: str) -> str:
    """A rules file without the alerts that look at days: even here they would last for minutes."""
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        group["rules"] = [r for r in group["rules"] if r["labels"].get("burn") != "budget"]
    return yaml.safe_dump(rules)


class Notifications:
    """What Alertmanager sent: for every alert, the states in their order."""

    def __init__(self):
        self._lock = Lock()
        self._states: dict[str, list[str]] = {}
        self._of: dict[str, str] = {}
        notifications = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with notifications._lock:
                    for alert in body["alerts"]:
                        name = alert["labels"]["alertname"]
                        notifications._states.setdefault(name, []).append(alert["status"])
                        notifications._of[name] = self.path.strip("/")
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, daemon=True).start()

    def states(self, name: str) -> list[str]:
        with self._lock:
            return list(self._states.get(name, []))

    def receiver(self, name: str) -> str:
        return self._of[name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Watch:
    """Prometheus, which scrapes every second, and Alertmanager."""

    def __init__(
        self, directory: Path, url: str, alertmanager_url: str, notifications: Notifications
    ):
        self._targets = directory / "targets"
        self._ports: dict[str, list[int]] = {}
        self.url = url
        self.alertmanager_url = alertmanager_url
        self.notifications = notifications

    def scrape(self, kind: str, *ports: int) -> None:
        """Scrape these ports as processes of a kind: api, dispatcher, gpu-worker, cpu-worker."""
        targets = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        draft = self._targets / f"{kind}.draft"
        draft.write_text(json.dumps(targets))
        draft.replace(self._targets / f"{kind}.json")

    def query(self, expr: str) -> list[dict]:
        """The result of an expression now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expr}, timeout=10)
        assert answer.is_success, f"{expr}: {answer.text}"
        return answer.json()["data"]["result"]

    def firing(self) -> set[str]:
        found = httpx.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}


@contextmanager
def watch(directory: Path, changes: dict[str, str]) -> Iterator[Watch]:
    """Both, on free ports. `changes`: to the thresholds of the alerts."""
    prometheus, alertmanager = shutil.which("prometheus"), shutil.which("prometheus-alertmanager")
    services.need("prometheus", prometheus)
    services.need("prometheus-alertmanager", alertmanager)
    (directory / "targets").mkdir(parents=True)
    port, manager = services.free_port(), services.free_port()
    with ExitStack() as stack:
        notifications = Notifications()
        stack.callback(notifications.close)
        rules = (RULES / "rules.yml").read_text().replace('le="30.0"', 'le="2.0"')  # JobsLate
        (directory / "rules.yml").write_text(faster_rules(rules, {}))
        alerts = faster_rules((RULES / "alerts.yml").read_text(), changes)
        (directory / "alerts.yml").write_text(without_budgets(alerts))
        config = yaml.safe_load((FILES / "prometheus.yml").read_text())
        config["rule_files"] = ["rules.yml", "alerts.yml"]
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["alerting"]["alertmanagers"][0]["static_configs"] = [
            {"targets": [f"127.0.0.1:{manager}"]}
        ]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        routes = (FILES / "alertmanager.yml").read_text()
        routes = routes.replace("127.0.0.1:9095", f"127.0.0.1:{notifications.port}")
        for name, value in {"group_wait": "0s", "group_interval": "1s"}.items():
            routes = re.sub(rf"{name}: \w+", f"{name}: {value}", routes)
        (directory / "alertmanager.yml").write_text(routes)
        log = stack.enter_context((directory / "watch.log").open("ab"))
        stack.enter_context(
            services.process(
                [
                    alertmanager,
                    f"--config.file={directory / 'alertmanager.yml'}",
                    f"--storage.path={directory / 'alertmanager'}",
                    f"--web.listen-address=127.0.0.1:{manager}",
                    "--cluster.listen-address=",
                ],
                stdout=log,
                stderr=log,
            )
        )
        child = stack.enter_context(
            services.process(
                [
                    prometheus,
                    f"--config.file={directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        )
        url = f"http://127.0.0.1:{port}"
        services.wait_until(lambda: httpx.get(f"{url}/-/ready").is_success, child)
        yield Watch(directory, url, f"http://127.0.0.1:{manager}", notifications)


def alert_names() -> list[str]:
    """The names of all alerts, once each."""
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return list(dict.fromkeys(rule["alert"] for group in groups for rule in group["rules"]))


def promtool(*arguments: object) -> str:
    """Run promtool; returns what it prints."""
    tool = shutil.which("promtool")
    services.need("promtool", tool)
    done = subprocess.run(
        [tool, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=FILES
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(check, timeout_s: float, what: str) -> None:
    """Return once `check()`; fails with `what`."""
    until = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < until, f"{what}, after {timeout_s:.0f} s"
        time.sleep(0.2)
