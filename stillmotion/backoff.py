"""How long to wait before another try."""

from email.utils import parsedate_to_datetime

RETRY_AFTER_LIMIT_S = 86_400.0


def full_jitter(n: int, draw: float, *, base_s: float, cap_s: float) -> float:
    """Seconds to wait after refusal `n`, counted from 0. `draw` is uniform in [0, 1)."""
    # 2**n overflows a float past n = 1023; the cap is reached long before 2**32.
    return draw * min(cap_s, base_s * 2.0 ** min(n, 32))


def retry_after_s(value: str | None, now: float) -> float | None:
    """Seconds requested by a Retry-After header (RFC 9110, 10.2.3): a number or a date.

    `now` is in Unix seconds. Returns None for a missing or meaningless header.
    """
    if value is None:
        return None
    value = value.strip()
    # isdecimal() alone accepts digits of other scripts; very long numbers are an attack on int().
    if value.isascii() and value.isdecimal():
        return float(int(value)) if len(value) <= 9 else RETRY_AFTER_LIMIT_S
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
