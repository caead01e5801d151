"""Puts a dispatcher together and runs it."""

import signal
import sys
from collections.abc import Callable
from functools import partial
from threading import Event, Thread

import structlog

from app import cluster_figures, internal_port, metrics, telemetry, tracing
from app.broker.celery_app import node_name
from app.broker.connections import (
    JOB_OF,
    POOL_IDLE,
    TRAFFIC_CHANGED,
    TURN_S,
    WEBHOOK_DUE,
    RegionRedis,
    listen,
    take_turns,
)
from app.broker.publish import Publisher
from app.config.settings import ConfigError, settings
from app.dispatcher.beats import Beats
from app.dispatcher.control.cluster import ClusterCounter
from app.dispatcher.control.controller import Controller
from app.dispatcher.control.reports import Reporter
from app.dispatcher.deliveries import DeliveryLoop
from app.dispatcher.placement.loop import Placer
from app.dispatcher.reaper import Reaper
from app.dispatcher.usage import UsageLoop
from app.internal_port import Checks, readiness
from app.store.clock import DatabaseClock
from app.store.session import Store
from app.store.startup import check_database
from app.telemetry import configure_logs
from app.traffic import Traffic

log = structlog.get_logger(__name__)

EX_CONFIG, EX_SOFTWARE = 78, 70  # sysexits.h


def main() -> int:
    """Run until SIGTERM or SIGINT. A broken thread ends the process: half a dispatcher is worse."""
    try:
        config = settings()
        topology = config.topology
        check_database(config)
    except ConfigError as error:
        print(f"app.dispatcher: {error}", file=sys.stderr)
        return EX_CONFIG
    configure_logs(config.log_level)
    stopping, broken = Event(), Event()
    beats = Beats(stopping)
    # One connection for each thread below, and the leader's, whose session holds a lock.
    store = Store.of(config, pool_size=9)
    leaders_store = Store.direct(config, pool_size=1)
    regions = RegionRedis(config)
    try:
        internal_port.start(config, _checks(store, regions, beats))
        tracing.start(config, "stillmotion-dispatcher")
    except ConfigError as error:
        print(f"app.dispatcher: {error}", file=sys.stderr)
        return EX_CONFIG
    metrics.expect_regions(topology.names)
    publisher = Publisher(config)
    clock = DatabaseClock(store)
    traffic = Traffic(config, store, regions, clock=clock)
    placer = Placer(config, store, publisher, traffic, wall=clock)
    controller = Controller(config, leaders_store, regions, node_name("dispatcher"), clock=clock)
    counter = ClusterCounter(config, store, cluster_figures.cluster, leads=controller.leads.is_set)
    reporter = Reporter(config, store, regions, clock=clock)
    reaper = Reaper(
        store,
        regions,
        placer.kick,
        key_concurrency=config.key_concurrency,
        region=config.region,
        known=topology.names,
        profiles=config.served_profiles,
    )
    deliveries = DeliveryLoop(
        store, publisher, regions.of(config.region), per_owner=config.webhooks_in_flight
    )

    def heard(message: str, first: bool = True) -> None:
        if message.startswith(POOL_IDLE):
            placer.pool_idle(message.removeprefix(POOL_IDLE), act=first)
        elif message == TRAFFIC_CHANGED:
            traffic.look_now()
        elif not first:
            return
        elif message == WEBHOOK_DUE:
            deliveries.kick()
        else:
            placer.kick(message.removeprefix(JOB_OF) if message.startswith(JOB_OF) else None)

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except Exception:
                log.exception("dispatcher_thread_broke")
                broken.set()
                stopping.set()
                placer.kick()

        return run

    def stop(*_: object) -> None:
        stopping.set()
        placer.kick()
        deliveries.kick()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    work: dict[str, Callable[[], None]] = {
        "reaper": partial(reaper.run, beats.of("reaper")),
        "deliveries": partial(deliveries.run, beats.of("deliveries")),
        "reporter": partial(reporter.run, beats.of("reporter")),
        "controller": partial(controller.run, beats.of("controller")),
        "cluster": partial(counter.run, beats.of("cluster")),
        "usage": partial(UsageLoop(store, leads=controller.leads.is_set).run, beats.of("usage")),
    }
    for index, client in enumerate(regions.urls().values()):
        work[f"wake-{index}"] = partial(listen, client, heard, beats.of(f"wake-{index}"))
    patient = RegionRedis(config, timeout_s=TURN_S + config.redis_timeout_s)
    for index, client in enumerate(patient.urls().values()):
        work[f"turns-{index}"] = partial(take_turns, client, heard, beats.of(f"turns-{index}"))
    threads = [Thread(target=guarded(body), name=name, daemon=True) for name, body in work.items()]
    for thread in threads:
        thread.start()
    log.info("dispatcher_started", regions=topology.names, profiles=config.served_profiles)
    guarded(partial(placer.run, beats.of("placer")))()
    for thread in threads:
        thread.join(timeout=3.0)
    traffic.close()
    publisher.close()
    store.close()
    leaders_store.close()
    tracing.stop()
    return EX_SOFTWARE if broken.is_set() else 0


def _checks(store: Store, regions: RegionRedis, beats: Beats) -> Checks:
    clients = regions.urls()
    return Checks(
        ready=lambda: readiness(
            {"database": store.check},
            {"redis": lambda: [client.ping() for client in clients.values()]},
        ),
        metrics=telemetry.DISPATCHER,
        alive=beats.alive,
    )
