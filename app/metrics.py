"""Every metric of a process. Those of the whole deployment are in app/cluster_figures.py.

The table in docs/guides/operating.md says what each is for; a test holds the two together.
"""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from app.domain.webhooks import Outcome
from app.telemetry import API, CPU_WORKER, DISPATCHER, GPU_WORKER, SECONDS, Together
from stillmotion import __version__

ALL = Together(API, DISPATCHER, GPU_WORKER, CPU_WORKER)

# --- every process --------------------------------------------------------------------------------

for _process, _registry in {
    "api": API,
    "dispatcher": DISPATCHER,
    "gpu-worker": GPU_WORKER,
    "cpu-worker": CPU_WORKER,
}.items():
    _info = Gauge(
        "stillmotion_build_info",
        "1, with the release and the kind of process.",
        ["version", "process"],
        registry=_registry,
    )
    _info.labels(__version__, _process).set(1)
database_wait_seconds = Histogram(
    "stillmotion_database_wait_seconds",
    "Wait for a connection of the process's pool.",
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 2, 5),
    registry=ALL,
)
tables_refused = Counter(
    "stillmotion_tables_refused_total",
    "Routing tables rejected for breaking an invariant, when written or read.",
    ["where", "reason"],
    registry=Together(API, DISPATCHER),
)
messages_dropped = Counter(
    "stillmotion_messages_dropped_total",
    "Messages and values in a broker or Redis that could not be read.",
    ["where"],
    registry=Together(API, DISPATCHER, GPU_WORKER, CPU_WORKER),
)

# --- API ------------------------------------------------------------------------------------------

submits = Counter("stillmotion_submits_total", "Submits by HTTP status.", ["status"], registry=API)
submit_seconds = Histogram(
    "stillmotion_submit_seconds", "Time to accept a job.", buckets=SECONDS, registry=API
)
shed_submits = Counter(
    "stillmotion_shed_submits_total",
    "Submits refused by admission.",
    ["region", "code"],
    registry=API,
)
places_refused = Counter(
    "stillmotion_places_refused_total",
    "Requests refused: no place to wait for a job or a body; too many submits under way.",
    ["kind"],
    registry=API,
)
requests = Counter(
    "stillmotion_requests_total",
    "Requests by the template of their route.",
    ["route", "method", "status"],
    registry=API,
)
request_seconds = Histogram(
    "stillmotion_request_seconds",
    "Time to answer, without requests that wait for a job. Of a stream: to its head.",
    ["route", "method"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
    registry=API,
)

# --- dispatcher -----------------------------------------------------------------------------------

placements = Counter(
    "stillmotion_placements_total",
    "Attempts placed, by the job's home and the region that got it.",
    ["home", "region", "overflow"],
    registry=DISPATCHER,
)
refused_probes = Counter(
    "stillmotion_refused_probes_total", "Claims refused.", ["region"], registry=DISPATCHER
)
reaped = Counter(
    "stillmotion_reaped_total",
    "Attempts reclaimed by the reaper.",
    ["reason", "region"],
    registry=DISPATCHER,
)
reports_refused = Counter(
    "stillmotion_reports_refused_total",
    "Regional reports rejected.",
    ["reason"],
    registry=DISPATCHER,
)
leading = Gauge(
    "stillmotion_controller_leading",
    "1 in the dispatcher that runs the controller.",
    registry=DISPATCHER,
)

# --- GPU worker -----------------------------------------------------------------------------------

attempts_ended = Counter(
    "stillmotion_attempts_ended_total", "Attempts by outcome.", ["outcome"], registry=GPU_WORKER
)
eta_error = Histogram(
    "stillmotion_eta_error_ratio",
    "Succeeded jobs: |time predicted at submit - time taken| / time taken.",
    buckets=(0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5),
    registry=GPU_WORKER,
)
clips_signed = Counter(
    "stillmotion_clips_signed_total",
    "Clips by signing outcome.",
    ["outcome"],
    registry=GPU_WORKER,
)
wait_seconds = Histogram(
    "stillmotion_wait_seconds",
    "From a job's submit to the begin of its first attempt, by the database's clock.",
    ["region", "priority"],
    buckets=SECONDS,
    registry=GPU_WORKER,
)
placed_to_begun_seconds = Histogram(
    "stillmotion_placed_to_begun_seconds",
    "From an attempt's placement to its begin, by the database's clock.",
    ["region"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
    registry=GPU_WORKER,
)
stage_seconds = Histogram(
    "stillmotion_stage_seconds",
    "Stages of an attempt, such as fetch, render, encode, sign, upload and finish.",
    ["stage"],
    buckets=SECONDS,
    registry=GPU_WORKER,
)
step_seconds = Histogram(
    "stillmotion_step_seconds",
    "Between two denoising steps.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    registry=GPU_WORKER,
)
slots = Gauge(
    "stillmotion_slots",
    "1 for what this worker is: idle, busy, draining, or unready.",
    ["region", "profile", "state"],
    registry=GPU_WORKER,
)
leases_lost = Counter(
    "stillmotion_leases_lost_total",
    "Attempts that somebody else owned before they ended.",
    ["region"],
    registry=GPU_WORKER,
)
fenced_finishes = Counter(
    "stillmotion_fenced_finishes_total",
    "Clips that were stored and then refused, because the attempt was not the job's any more.",
    ["region"],
    registry=GPU_WORKER,
)
gpu_memory_bytes = Gauge(
    "stillmotion_gpu_memory_bytes", "Memory of this worker's GPU.", ["kind"], registry=GPU_WORKER
)
gpu_utilisation_ratio = Gauge(
    "stillmotion_gpu_utilisation_ratio",
    "Share of time in which this worker's GPU ran a kernel, as its driver says.",
    ["device"],
    registry=GPU_WORKER,
)
model_info = Gauge(
    "stillmotion_model_info", "1, with the model.", ["profile", "version"], registry=GPU_WORKER
)

# --- CPU worker -----------------------------------------------------------------------------------

webhook_tries = Counter(
    "stillmotion_webhook_tries_total", "Tries of webhooks.", ["outcome"], registry=CPU_WORKER
)
webhook_seconds = Histogram(
    "stillmotion_webhook_seconds",
    "Time of one try, until the receiver's answer or the limit.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15),
    registry=CPU_WORKER,
)
sweeps = Counter(
    "stillmotion_sweeps_total", "Sweeps of housekeeping.", ["outcome"], registry=CPU_WORKER
)
sweep_finished = Gauge(
    "stillmotion_sweep_finished_timestamp_seconds",
    "When this process last finished a sweep. Its age is `time()` less this.",
    ["kind"],
    registry=CPU_WORKER,
)

# --- zeros ----------------------------------------------------------------------------------------

# To Prometheus a counter that appears at 1 has not grown: alerts would miss the first time.
for _place in (
    "queue",
    "unacknowledged",
    "wake",
    "progress",
    "counter",
    "control",
    "controls",
    "setup",
):
    messages_dropped.labels(_place)
for _outcome in ("succeeded", "failed", "canceled", "superseded"):
    attempts_ended.labels(_outcome)
for _outcome in ("signed", "failed"):
    clips_signed.labels(_outcome)
for _outcome in Outcome:
    webhook_tries.labels(_outcome.value)
for _outcome in ("finished", "cut_short"):
    sweeps.labels(_outcome)


def expect_regions(names: Iterable[str]) -> None:
    """Begin the dispatcher's counters of these regions at zero."""
    for region in names:
        refused_probes.labels(region)
        for reason in ("not_begun", "lost"):
            reaped.labels(reason, region)


def expect_attempts(region: str) -> None:
    """Begin a GPU worker's counters at zero."""
    for counter in (leases_lost, fenced_finishes):
        counter.labels(region)
