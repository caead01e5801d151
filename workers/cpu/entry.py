"""Puts a CPU worker together and runs it.

Any number may run. Celery's pool is `threads`, because nearly all time is spent waiting for
receivers.
"""

import sys
from uuid import UUID

import structlog
from celery import Celery

from app import internal_port, outbound, telemetry
from app.broker.celery_app import make_celery, node_name, run_worker
from app.config.settings import ConfigError, Settings, settings
from app.domain.errors import DatabaseUnavailable
from app.domain.job.messages import DELIVER, HOUSEKEEPING_QUEUE, SWEEP, WEBHOOKS_QUEUE
from app.internal_port import Checks, readiness
from app.objects import objects_for
from app.public.links import Links
from app.store.clock import DatabaseClock
from app.store.session import Store
from app.store.startup import check_database
from app.store.webhooks.deliveries import Due
from app.telemetry import configure_logs
from stillmotion.errors import StillmotionError
from workers.cpu import housekeeping, webhook_sender
from workers.cpu.webhook_sender import Services

log = structlog.get_logger(__name__)

EX_CONFIG = 78  # sysexits.h
# Each receiver that hangs occupies RECEIVER_LIMIT of them, for TIMEOUT_S at a time, and an owner
# whose receivers all hang OWNER_LIMIT.
THREADS = 32


def open_services(config: Settings) -> Services:
    """What the tasks need. Connects on first use. Raises ConfigError."""
    try:
        allow = outbound.parse_allow(config.outbound_allow)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    # A thread holds a connection for milliseconds, and never while it waits for a receiver.
    store = Store.of(config, pool_size=8)
    clock = DatabaseClock(store)
    objects = objects_for(config, clock)
    return Services(
        store=store,
        objects=objects,
        links=Links.of(config, objects, clock),
        clock=clock,
        allow=allow,
        secret_keys=config.secret_keys,
        owner_limit=config.webhooks_in_flight,
    )


def register(app: Celery, services: Services) -> None:
    """Add the CPU tasks to a Celery app."""

    def deliver(delivery_id: str, tries: int) -> None:
        try:
            webhook_sender.deliver(services, Due(UUID(delivery_id), tries))
        except DatabaseUnavailable as error:
            # Acknowledged anyway: when the lease expires, the dispatcher publishes it again.
            log.warning("webhook_left_to_lease", error=error.detail)

    def sweep() -> None:
        try:
            housekeeping.sweep(services.store, services.objects, services.clock.now())
        except StillmotionError as error:
            log.warning("sweep_cut_short", error=error.detail)  # the next sweep goes on

    app.task(deliver, name=DELIVER)
    app.task(sweep, name=SWEEP)


def _checks(services: Services) -> Checks:
    needed = {"database": services.store.check, "storage": services.objects.check}
    return Checks(ready=lambda: readiness(needed), metrics=telemetry.CPU_WORKER)


def main() -> None:
    """Run the worker. Exits with 78 if it is misconfigured."""
    try:
        config = settings()
        configure_logs(config.log_level)
        services = open_services(config)
        check_database(config)
        app = make_celery(config)
        internal_port.start(config, _checks(services))
    except ConfigError as error:
        print(f"workers.cpu: {error}", file=sys.stderr)
        sys.exit(EX_CONFIG)
    register(app, services)
    run_worker(
        app,
        node_name("cpu"),
        [WEBHOOKS_QUEUE, HOUSEKEEPING_QUEUE],
        threads=THREADS,
        log_level=config.log_level,
    )
