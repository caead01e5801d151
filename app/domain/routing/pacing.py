"""Waiting before asking again: full-jitter backoff, retry budget, overflow throttle, start delay.

Full jitter (AWS Architecture Blog, 2015) is uniform between 0 and a doubling ceiling. Randomness is
passed in as `draw`, a number in [0, 1), time as `now`, in seconds.
"""

from collections import deque

from stillmotion.backoff import full_jitter

PROBE_BASE_S, PROBE_CAP_S = 0.1, 2.0
RETRY_BASE_S, RETRY_CAP_S = 1.0, 60.0
RETRY_RATIO, RETRY_FLOOR, RETRY_WINDOW_S = 0.10, 3, 60.0
THROTTLE_K, THROTTLE_WINDOW_S = 1.5, 30.0
DELAY_FROM, DELAY_MOST = 0.85, 0.5  # utilisation at which delays begin; share delayed at 1


def probe_delay(refusals: int, draw: float) -> float:
    """Seconds until a pool that refused `refusals` >= 1 times in a row is probed again."""
    return full_jitter(refusals - 1, draw, base_s=PROBE_BASE_S, cap_s=PROBE_CAP_S)


def retry_delay(begun: int, draw: float) -> float:
    """Seconds until a job whose attempt failed is placed again; `begun` >= 1 attempts started."""
    return full_jitter(begun - 1, draw, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)


class Window:
    """Counts events in the last `length_s` seconds, in slots of a tenth of that."""

    SLOTS = 10

    def __init__(self, length_s: float):
        self._slot_s = length_s / self.SLOTS
        self._counts: deque[tuple[int, float]] = deque()  # (slot, count), oldest first

    def add(self, now: float, count: float = 1.0) -> None:
        """`now`: seconds of any monotonic clock."""
        slot = int(now // self._slot_s)
        if self._counts and self._counts[-1][0] >= slot:
            count += self._counts.pop()[1]
        self._counts.append((slot, count))

    def total(self, now: float) -> float:
        oldest = int(now // self._slot_s) - self.SLOTS
        while self._counts and self._counts[0][0] <= oldest:
            self._counts.popleft()
        return sum(count for _, count in self._counts)


class RetryBudget:
    """Retries that may compete with fresh jobs: a tenth of recent requests, but always a few.

    More would multiply load exactly when the pool is in trouble (Google SRE book, chapter 21;
    the floor is Envoy's). A retry over the budget takes a worker that no other job wants, or waits;
    it never fails for that.
    """

    def __init__(
        self, ratio: float = RETRY_RATIO, floor: int = RETRY_FLOOR, window_s: float = RETRY_WINDOW_S
    ):
        self._ratio, self._floor = ratio, floor
        self._requests, self._retries = Window(window_s), Window(window_s)

    def request(self, now: float) -> None:
        """A first try was made."""
        self._requests.add(now)

    def take(self, now: float) -> bool:
        """Take a retry out of the budget; False if none is left now."""
        allowed = max(float(self._floor), self._ratio * self._requests.total(now))
        if self._retries.total(now) + 1.0 > allowed:
            return False
        self._retries.add(now)
        return True


class OverflowThrottle:
    """Stops sending overflow to a region that mostly refuses it, without waiting for a new table.

    Adaptive throttling, Google SRE book, chapter 21. K = 1.5 and 30 s rather than 2 and two
    minutes: the routing table itself changes every ten seconds.
    """

    def __init__(self, k: float = THROTTLE_K, window_s: float = THROTTLE_WINDOW_S):
        self._k = k
        self._requests, self._accepts = Window(window_s), Window(window_s)

    def asked(self, now: float, *, accepted: bool) -> None:
        """Overflow asked for a worker. A throttled attempt counts too, as not accepted."""
        self._requests.add(now)
        if accepted:
            self._accepts.add(now)

    def refusal(self, now: float) -> float:
        """The probability with which to skip the region now."""
        requests = self._requests.total(now)
        return max(0.0, (requests - self._k * self._accepts.total(now)) / (requests + 1.0))


def delayed_share(utilisation: float) -> float:
    """The part of bulk submissions to hold back a moment: 0 below 0.85, half of them at 1."""
    return DELAY_MOST * min(1.0, max(0.0, (utilisation - DELAY_FROM) / (1.0 - DELAY_FROM)))


def execution_delay(utilisation: float, service_s: float, draw: float, amount: float) -> float:
    """Seconds to hold back a job of a bulk submission, or of a polling design; not for others.

    `draw` decides whether, `amount` for how long; both in [0, 1). With an idle set and push the
    delay only costs time: there is already 1.0 attempt per job.
    """
    if draw >= delayed_share(utilisation):
        return 0.0
    return amount * min(1.0, service_s / 4.0)
