"""At submit: how long would this job wait, and is refusing it now better than serving it late?

Refusing beyond a bounded predicted wait costs no goodput in overload (the workers stay busy) and
keeps the wait of admitted jobs short. An accepted job is never shed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

RETRY_AFTER_LEAST_S, RETRY_AFTER_MOST_S = 1.0, 60.0
BATCH_WAIT_S = 1800.0
INTERACTIVE_WAIT = 0.5  # service times
INTERACTIVE_WAIT_LEAST_S, INTERACTIVE_WAIT_MOST_S = 1.0, 5.0


class Class(IntEnum):
    """A job's importance: the highest number is shed first."""

    PAID = 0
    INTERACTIVE = 1
    BATCH = 2


@dataclass(frozen=True)
class Bounds:
    """The longest predicted wait, seconds. For interactive jobs half a service time, between the
    least and the most."""

    interactive_least_s: float = INTERACTIVE_WAIT_LEAST_S
    interactive_most_s: float = INTERACTIVE_WAIT_MOST_S
    batch_s: float = BATCH_WAIT_S


DEFAULT_BOUNDS = Bounds()
# What a job's `priority` stands for.
CLASSES = (Class.PAID, Class.INTERACTIVE, Class.BATCH)


@dataclass(frozen=True)
class Verdict:
    """`retry_after_s` is set when the job is refused."""

    admitted: bool
    predicted_wait_s: float
    retry_after_s: float | None = None


def predicted_wait(waiting: int, ready: int, idle: int, service_s: float) -> float:
    """Seconds until a job that arrives now gets a worker: (waiting + 1) S / c, 0 if one is free.

    Infinite without workers.
    """
    if idle > waiting:
        return 0.0
    if ready < 1:
        return float("inf")
    return (waiting + 1 - idle) * service_s / ready


def wait_among(
    regions: Iterable[str],
    waiting: Mapping[str, int],
    ready: Mapping[str, int],
    idle: Mapping[str, int],
    service_s: float,
) -> float:
    """Predicted wait, seconds, of a job with these candidates, best first.

    0 if any has a free worker, else the wait in the queue of the first that has workers, where the
    job will wait. The shortest of all queues would promise it a place that others hold.
    `waiting`: waiting jobs per region.
    """
    first = float("inf")
    for region in regions:
        wait_s = predicted_wait(
            waiting.get(region, 0), ready.get(region, 0), idle.get(region, 0), service_s
        )
        if wait_s <= 0.0:
            return 0.0
        if first == float("inf"):
            first = wait_s
    return first


def wait_bound(kind: Class, service_s: float, bounds: Bounds = DEFAULT_BOUNDS) -> float:
    """The longest predicted wait, seconds, at which a job of this class is still admitted."""
    if kind is Class.BATCH:
        return bounds.batch_s
    bound = max(bounds.interactive_least_s, INTERACTIVE_WAIT * service_s)
    return min(bounds.interactive_most_s, bound)


def retry_after(drain_s: float, draw: float) -> float:
    """Seconds for the Retry-After header: the predicted drain, spread by half either way.

    `draw` in [0, 1). Without the spread all refused clients would return together.
    """
    return min(RETRY_AFTER_MOST_S, max(RETRY_AFTER_LEAST_S, drain_s * (0.5 + draw)))


def shed_shares(demand: Mapping[Class, float], shed: float) -> dict[Class, float]:
    """The part of each class to refuse so that `shed` of all demand is, least important first.

    `demand` in jobs/s, `shed` in [0, 1].
    """
    left = shed * sum(demand.values())
    shares = {}
    for kind in sorted(demand, reverse=True):
        taken = min(left, demand[kind])
        shares[kind] = taken / demand[kind] if demand[kind] > 0.0 else 0.0
        left -= taken
    return shares


def admit(
    kind: Class,
    predicted_wait_s: float,
    service_s: float,
    *,
    shed_share: float = 0.0,
    draw: float,
    spread: float,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Verdict:
    """Accept or refuse a job at submit. `shed_share`: of its class, by the table's total overload.

    `draw` decides about shedding, `spread` about Retry-After; both in [0, 1). A job
    for which a worker is free is never refused.
    """
    bound = wait_bound(kind, service_s, bounds)
    if predicted_wait_s <= 0.0 or (predicted_wait_s <= bound and draw >= shed_share):
        return Verdict(True, predicted_wait_s)
    drain_s = max(predicted_wait_s, bound)
    return Verdict(False, predicted_wait_s, retry_after(drain_s, spread))
