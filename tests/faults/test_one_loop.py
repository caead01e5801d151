"""One region's broker or Valkey does not answer; placement in the others continues."""

import socket
import time
from contextlib import contextmanager
from threading import Thread

import pytest

from app.broker.claims import Claims
from app.broker.connections import RegionRedis
from app.broker.publish import Publisher
from app.dispatcher.placement.commit import PUBLISH_WAIT_S
from app.dispatcher.placement.loop import Placer
from app.domain.routing.topology import Pool
from app.traffic import Traffic
from tests.support import make
from tests.support.services import wait_until

SILENT, GOOD = Pool("eu-west", "noop"), Pool("us-east", "noop")


@contextmanager
def silent_server():
    """A port that accepts connections and never answers. Yields its number."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = []

        def accept() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.fixture
def make_placer(settings, store, tmp_path):
    """A function that makes a placer; its argument gives eu-west its own URLs."""
    parts = []

    def make_one(urls: str) -> Placer:
        regions = tmp_path / "regions.toml"
        regions.write_text(
            f"""
[[region]]
name = "us-east"
rtt_ms = {{ eu-west = 80 }}
[[region]]
name = "eu-west"
rtt_ms = {{ us-east = 80 }}
{urls}
"""
        )
        config = type(settings)(**settings.model_dump() | {"regions_file": regions})
        publisher = Publisher(config)
        traffic = Traffic(config, store, RegionRedis(config))
        parts.extend((publisher, traffic))
        return Placer(config, store, publisher, traffic, draw=lambda: 0.5)

    yield make_one
    for part in parts:
        part.close()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_never_answers_does_not_hold_up_the_other_regions(
    store, settings, make_placer, scheme
):
    owner = make.owner(store)
    claims = Claims(RegionRedis(settings).of("us-east"))
    with silent_server() as port:
        redis_url = f'redis_url = "{settings.redis_url}"\n'
        placer = make_placer(f'{redis_url}broker_url = "{scheme}://127.0.0.1:{port}/"')
        placer.place("noop")  # connect, and read the traffic state once
        stuck = make.submit(store, owner, policy="strict", home_region="eu-west")
        claims.announce(SILENT, "x1")
        slowest = 0.0
        for n in range(20):
            job = make.submit(store, owner, policy="strict")
            claims.announce(SILENT, "x1")
            claims.announce(GOOD, f"e{n}")
            placer.pool_idle(str(GOOD))
            start = time.monotonic()
            placer.place("noop")
            slowest = max(slowest, time.monotonic() - start)
            assert make.read(store, job).state == "starting"
        assert slowest < PUBLISH_WAIT_S + 0.25
        # Its own job is neither lost nor left placed without a message.
        wait_until(lambda: make.read(store, stuck).state == "queued", timeout_s=15.0)
        [attempt] = make.attempts_of(store, stuck)
        assert (attempt.outcome, attempt.error_code) == ("not_begun", "broker_unavailable")


def test_a_valkey_that_never_answers_does_not_hold_up_the_other_regions(
    store, settings, make_placer
):
    owner = make.owner(store)
    claims = Claims(RegionRedis(settings).of("us-east"))
    with silent_server() as port:
        placer = make_placer(f'redis_url = "redis://127.0.0.1:{port}/0"')
        placer.place("noop")
        make.submit(store, owner, policy="strict", home_region="eu-west")
        took = []
        for n in range(40):
            job = make.submit(store, owner, policy="strict")
            claims.announce(GOOD, f"e{n}")
            placer.pool_idle(str(GOOD))
            start = time.monotonic()
            placer.place("noop")
            took.append(time.monotonic() - start)
            assert make.read(store, job).state == "starting"
        assert max(took) < settings.claim_timeout_s + 0.25
