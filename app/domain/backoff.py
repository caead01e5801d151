"""Full-jitter backoff (AWS Architecture Blog, 2015): uniform between 0 and a doubling ceiling.

Randomness is passed in as `draw`, a number in [0, 1).
"""

PROBE_BASE_S, PROBE_CAP_S = 0.1, 2.0
RETRY_BASE_S, RETRY_CAP_S = 1.0, 60.0


def full_jitter(n: int, draw: float, *, base_s: float, cap_s: float) -> float:
    """Seconds to wait before try `n` + 1, after `n` >= 0 refusals beyond the first."""
    # 2**n overflows a float past n = 1023; the cap is reached long before 2**32.
    return draw * min(cap_s, base_s * 2.0 ** min(n, 32))


def probe_delay(refusals: int, draw: float) -> float:
    """Seconds until a pool that refused `refusals` >= 1 times in a row is probed again."""
    return full_jitter(refusals - 1, draw, base_s=PROBE_BASE_S, cap_s=PROBE_CAP_S)


def retry_delay(begun: int, draw: float) -> float:
    """Seconds until a job whose attempt failed is placed again; `begun` >= 1 attempts started."""
    return full_jitter(begun - 1, draw, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
