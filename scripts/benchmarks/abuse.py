"""What one hostile client does to everybody else.

Everything is real: gunicorn, a dispatcher, two workers whose render is instant, a CPU worker,
Postgres, Valkey, receivers on the loopback. The attackers use one key, or none; the figures are
those of `/healthz` and of another tenant while the attack runs. Keys have the deployment's default
limits, except that the other tenant may submit as often as it likes.

    scripts/bench abuse --json abuse.json
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from multiprocessing import get_context

import numpy as np

from app.config.settings import Settings
from app.store import keys
from app.store.session import Store
from scripts.benchmarks import abuse_attacks as attacks
from scripts.benchmarks.abuse_attacks import Attack
from scripts.benchmarks.abuse_pictures import many_scans
from scripts.benchmarks.abuse_watch import p99_ms, peak_rss, probe_p99_ms, submit
from scripts.benchmarks.client import Client
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.harness.webhook_log import WebhookLog
from scripts.benchmarks.load_clients import percentile
from scripts.stack import Stack
from scripts.stack.stack import UNLIMITED

PROCESSES = ("api", "dispatcher", "gpu:us-east", "gpu:us-east:2", "cpu")
DURATION_S, QUICK_S = 30.0, 6.0
GRIP_S = 2.0  # from an attack's start until it is measured
PROBES_PER_S = 10.0
SUBMITS_PER_S = 4.0
MB = 1_000_000
BODY_BYTES = 32 * MB
FIELDS = 1_000_000
WEBHOOK_S = 60.0  # patience
RECEIVERS = 16


@dataclass(frozen=True)
class Health:
    """The 99th percentile of /healthz in ms, by port."""

    public_ms: float
    internal_ms: float | None = None

    def figure(self, name: str) -> Figure:
        """That of the internal port, which load balancers ask, if there is one."""
        if self.internal_ms is None:
            return Figure(name, self.public_ms, at_most=100, note="on the public port")
        note = f"on the internal port; {self.public_ms:.0f} on the public one"
        return Figure(name, self.internal_ms, at_most=100, note=note)


class Site:
    """A running service with two tenants."""

    def __init__(self, stack: Stack):
        self.stack = stack
        self.attacker = new_key(stack, "attacker")
        self.other = new_key(stack, "other", submits_per_minute=1_000_000)

    @property
    def internal_url(self) -> str | None:
        """Where health checks are answered without a place in the gate, if there is such a port."""
        port = self.stack.services.supervisor.spec("api").env.get("INTERNAL_PORT")
        return f"http://127.0.0.1:{port}" if port else None

    def healthz(self, attack: Attack, duration_s: float) -> Health:
        urls = [self.stack.url, *filter(None, [self.internal_url])]
        with ProcessPoolExecutor(len(urls), mp_context=get_context("spawn")) as pool:
            list(pool.map(probe_p99_ms, urls, repeat(PROBES_PER_S), repeat(0.1)))  # starts them
            with attack:
                time.sleep(GRIP_S)
                waits = pool.map(probe_p99_ms, urls, repeat(PROBES_PER_S), repeat(duration_s))
                return Health(*waits)

    def calm(self) -> None:
        """Start the API anew, so that one attack's rest is not measured with the next."""
        self.stack.stop("api")
        self.stack.start("api")


def run(*, quick: bool = False) -> list[Figure]:
    duration_s = QUICK_S if quick else DURATION_S
    webhooks = WebhookLog()
    with (
        attacks.dripping() as source,
        attacks.hanging(RECEIVERS) as receivers,
        contextlib.closing(webhooks),
        running([webhooks.address, source.split("/")[2], *receivers]) as site,
    ):
        url, key = site.stack.url, site.attacker
        _say("slow bodies")
        bodies = site.healthz(attacks.slow_bodies(url, key), duration_s)
        site.calm()
        _say("slow URLs")
        urls = site.healthz(attacks.slow_urls(url, key, source), duration_s)
        site.calm()
        bombs, peak_mb = _json_bombs(site, duration_s)
        site.calm()
        _say("pictures that take long to decode")
        with attacks.decoder_hog(url, key, many_scans()):
            time.sleep(GRIP_S)
            submit_ms = p99_ms(submit(url, site.other), per_s=SUBMITS_PER_S, duration_s=duration_s)
        site.calm()
        _say("receivers that hang")
        webhook_s = _webhook_p99_s(site, webhooks, receivers, duration_s)
    return [
        bodies.figure("healthz_p99_ms_slow_bodies"),
        urls.figure("healthz_p99_ms_slow_urls"),
        bombs.figure("healthz_p99_ms_json_bomb"),
        Figure("peak_rss_mb_json_bomb", peak_mb, at_most=400, note="with its picture processes"),
        Figure("other_tenant_submit_p99_ms_decoder_hog", submit_ms, at_most=300),
        Figure("other_tenant_webhook_p99_s", webhook_s, at_most=1),
    ]


@contextlib.contextmanager
def running(allow: list[str]) -> Iterator[Site]:
    with Stack(
        regions=("us-east",),
        processes=PROCESSES,
        env={
            "MODEL_PROFILE": "noop",
            "SERVED_PROFILES": "noop",
            "OUTBOUND_ALLOW": ",".join(allow),
            # A development stack switches the limits of keys off.
            **{name: str(Settings.model_fields[name.lower()].default) for name in UNLIMITED},
        },
    ) as stack:
        yield Site(stack)


def new_key(stack: Stack, name: str, *, submits_per_minute: int | None = None) -> str:
    settings = Settings.model_construct(database_url=stack.env["DATABASE_URL"])
    store = Store(settings.sqlalchemy_url, pool_size=1)
    with contextlib.closing(store), store.begin() as tx:
        return keys.create(tx, name, submits_per_minute=submits_per_minute)[1]


def _json_bombs(site: Site, duration_s: float) -> tuple[Health, float]:
    """(/healthz, peak memory in MB), each the worst of three kinds of JSON."""
    bombs = {
        "a million unknown fields": (attacks.unknown_fields(FIELDS), 1),
        "32 MB of unknown fields": (attacks.unknown_fields(size_bytes=BODY_BYTES), 1),
        "sixteen data URIs of 32 MB": (attacks.data_uri(BODY_BYTES), 16),
    }
    seen: list[Health] = []
    peaks: list[float] = []
    for name, (body, count) in bombs.items():
        _say(name)
        with peak_rss(site.stack.pid("api")) as peak:
            attack = attacks.json_bombs(site.stack.url, site.attacker, body, count=count)
            seen.append(site.healthz(attack, duration_s))
            peaks.append(peak())
        _say(f"  {seen[-1]}, peak {peaks[-1]:.0f} MB")
        site.calm()
    return max(seen, key=lambda each: each.internal_ms or each.public_ms), max(peaks)


def _webhook_p99_s(
    site: Site, webhooks: WebhookLog, receivers: list[str], duration_s: float
) -> float:
    """From the end of the other tenant's job to its message; a lost one counts as WEBHOOK_S."""
    url, client = site.stack.url, Client(site.stack.url, site.other)
    with attacks.hanging_webhooks(url, site.attacker, [f"http://{each}/" for each in receivers]):
        time.sleep(GRIP_S)
        jobs = []
        for _ in range(int(duration_s)):
            jobs.append(client.submit(frames="8", webhook_url=webhooks.url))
            time.sleep(1.0)
        deadline = time.monotonic() + WEBHOOK_S
        while time.monotonic() < deadline:
            came = {each.job_id: each.at for each in webhooks.received()}
            if came.keys() >= set(jobs):
                break
            time.sleep(0.1)
    delays = []
    for job_id in jobs:
        ended = client.request("GET", f"/v1/jobs/{job_id}")["finished_at"]
        at = came.get(job_id)
        delays.append(WEBHOOK_S if at is None else at - datetime.fromisoformat(ended).timestamp())
    return percentile(np.array(delays), 0.99)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
