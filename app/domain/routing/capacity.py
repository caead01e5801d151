"""How much load a pool can carry: Erlang's formulas, ceilings, load cost, recovery ramp.

Notation as in the literature: c servers, a = arrival rate x service time (offered load, erlangs),
rho = a / c. All times in seconds.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import exp, isfinite, log
from statistics import median

CEILING_FLOOR, CEILING_TOP = 0.40, 0.92
OVERLOAD_TOP = 0.97  # where ceilings end when all regions together have too much
CEILING_WAIT = 0.25  # p99 wait at the ceiling, in service times
CEILING_QUANTILE = 0.99

COST_LOW, COST_HIGH = 0.5, 2.0  # a measured cost may differ from Little's prior by this factor
COST_SAMPLES = 30  # measured points that weigh as much as the prior

RAMP_START, RAMP_FACTOR, RAMP_STEP_S = 0.10, 1.5, 10.0


def erlang_b(servers: int, offered: float) -> float:
    """Probability that all servers are busy when nobody waits (loss system), any service law.

    Erlang 1917; the recursion is Jagerman 1974's and is stable for every `offered` >= 0.
    """
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked


def erlang_c(servers: int, offered: float) -> float:
    """Probability of having to wait (M/M/c); 1 when the load is not sustainable."""
    if offered >= servers:
        return 1.0
    blocked = erlang_b(servers, offered)
    return blocked / (1.0 - (offered / servers) * (1.0 - blocked))


def wait_quantile(
    servers: int, offered: float, service_s: float, q: float = 0.99, scv: float = 1.0
) -> float:
    """The q-quantile of the wait in an M/M/c queue, in seconds; infinite when it has no end.

    `scv`, the squared coefficient of variation of the service time, scales it by (1 + scv) / 2
    (Lee and Longton 1959), which is exact at 1.
    """
    if offered >= servers:
        return float("inf")
    waits = erlang_c(servers, offered)
    if waits <= 1.0 - q:
        return 0.0
    return service_s / (servers - offered) * log(waits / (1.0 - q)) * (1.0 + scv) / 2.0


@lru_cache(maxsize=4096)
def ceiling(ready: int) -> float:
    """The utilisation that a pool of `ready` workers may be planned to, by its size.

    Where the p99 wait reaches CEILING_WAIT service times. A fixed 80 % would make a small pool's
    jobs wait for whole service times, and leave a tenth of a large pool unused.
    """

    def calm(rho: float) -> bool:
        return wait_quantile(ready, rho * ready, 1.0, CEILING_QUANTILE) <= CEILING_WAIT

    if ready < 1 or not calm(CEILING_FLOOR):
        return CEILING_FLOOR
    low, high = CEILING_FLOOR, CEILING_TOP
    if calm(high):
        return high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if calm(middle) else (low, middle)
    return low


def load_cost(ready: int, service_s: float, samples: Sequence[tuple[float, float]] = ()) -> float:
    """Utilisation added per job/s: Little's law S / c, moved towards measurements.

    `samples`: (jobs/s served, utilisation) of the last minutes. Their slope is Theil and Sen's, the
    median over all pairs, so single outliers do not matter. Infinite without workers.
    """
    if ready < 1:
        return float("inf")
    prior = service_s / ready
    slopes = [
        (u2 - u1) / (r2 - r1)
        for i, (r1, u1) in enumerate(samples)
        for r2, u2 in samples[i + 1 :]
        # Points closer than this measure noise, not a slope.
        if abs(r2 - r1) * prior > 0.01
    ]
    if not slopes:
        return prior
    trust = len(samples) / (len(samples) + COST_SAMPLES)
    blend = (1.0 - trust) * prior + trust * median(slopes)
    return min(COST_HIGH * prior, max(COST_LOW * prior, blend))


def ewma(previous: float | None, sample: float, elapsed_s: float, half_life_s: float) -> float:
    """Exponentially weighted mean whose memory halves every `half_life_s`, at any sampling pace."""
    if previous is None or not isfinite(previous):
        return sample
    keep = exp(-log(2.0) * max(0.0, elapsed_s) / half_life_s)
    return keep * previous + (1.0 - keep) * sample


def ramp(since_recovery_s: float | None) -> float:
    """The usable part of a recovered region's capacity: 10 % at once, all after a minute.

    A region that comes back has cold caches, weights and connections. None: it never was away.
    """
    if since_recovery_s is None:
        return 1.0
    # Past the sixth step the power only grows; bounded because a float would overflow in hours.
    steps = min(10.0, max(0.0, since_recovery_s) // RAMP_STEP_S)
    return float(min(1.0, RAMP_START * RAMP_FACTOR**steps))
