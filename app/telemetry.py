"""Logs as JSON lines, and a registry of metrics for each kind of process."""

import logging
import sys
import threading
from types import TracebackType

import structlog
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    disable_created_metrics,
)
from prometheus_client.registry import Collector
from structlog.typing import Processor

log = structlog.get_logger(__name__)

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)

# They double the series, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


# Each process shows its own: a metric that it never writes would read 0, which may mean something.
API, DISPATCHER, GPU_WORKER, CPU_WORKER = (_registry() for _ in range(4))


class Together(CollectorRegistry):
    """Registers a metric in several registries."""

    def __init__(self, *registries: CollectorRegistry):
        super().__init__()
        self._registries = registries

    def register(self, collector: Collector) -> None:
        for registry in self._registries:
            registry.register(collector)


def configure_logs(level: str = "info") -> None:
    """Send all log records, ours and the libraries', to stderr as JSON lines."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # What nobody foresaw is a line like every other, too.
    logging.captureWarnings(True)
    sys.excepthook = _process_broke
    threading.excepthook = _thread_broke
    # httpx logs every URL, and a signed URL is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _process_broke(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("process_broke", exc_info=(kind, error, traceback))


def _thread_broke(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = None if args.thread is None else args.thread.name
        found = (args.exc_type, args.exc_value, args.exc_traceback)
        log.error("thread_broke", thread=name, exc_info=found)
