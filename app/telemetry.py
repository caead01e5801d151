"""Logs as JSON lines, and every metric."""

import logging
import sys

import structlog
from prometheus_client import Counter, Gauge, Histogram
from structlog.typing import Processor

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)

submits = Counter("stillmotion_submits_total", "Submits by HTTP status.", ["status"])
submit_seconds = Histogram("stillmotion_submit_seconds", "Time to accept a job.", buckets=SECONDS)
live_jobs = Gauge(
    "stillmotion_live_jobs",
    "Unfinished jobs. The backlog is here: broker queues are short by design.",
    ["profile", "region", "state"],
)
placements = Counter("stillmotion_placements_total", "Attempts placed.", ["region", "overflow"])
refused_probes = Counter("stillmotion_refused_probes_total", "Claims refused.", ["region"])
reaped = Counter("stillmotion_reaped_total", "Attempts reclaimed by the reaper.", ["reason"])
tables_refused = Counter(
    "stillmotion_tables_refused_total",
    "Routing tables rejected for breaking an invariant, when written or read.",
    ["where", "reason"],
)
reports_refused = Counter(
    "stillmotion_reports_refused_total", "Regional reports rejected.", ["reason"]
)
table_version = Gauge("stillmotion_table_version", "Version of the latest routing table.")
optimality_gap = Gauge(
    "stillmotion_optimality_gap_points",
    "Percentage points more demand that the best routing would keep at home.",
)
rtt_ratio = Gauge(
    "stillmotion_optimality_rtt_ratio", "Our mean round trip divided by the best routing's."
)
leading = Gauge("stillmotion_controller_leading", "1 in the dispatcher that runs the controller.")
shed_submits = Counter(
    "stillmotion_shed_submits_total", "Submits refused by admission.", ["region", "code"]
)
places_refused = Counter(
    "stillmotion_places_refused_total",
    "Requests refused: no place to wait for a job or a body; too many submits under way.",
    ["kind"],
)
eta_error = Histogram(
    "stillmotion_eta_error_ratio",
    "Succeeded jobs: |time predicted at submit - time taken| / time taken.",
    buckets=(0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5),
)
messages_dropped = Counter(
    "stillmotion_messages_dropped_total",
    "Messages and values in a broker or Redis that could not be read.",
    ["where"],
)
render_seconds = Counter(
    "stillmotion_render_seconds_total", "Seconds in which this worker's GPU rendered clips."
)
attempts_ended = Counter("stillmotion_attempts_ended_total", "Attempts by outcome.", ["outcome"])
clips_signed = Counter("stillmotion_clips_signed_total", "Clips by signing outcome.", ["outcome"])


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
    # httpx logs every URL, and a signed URL is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
