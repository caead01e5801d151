"""How a colour's number becomes light: the transfer functions of ITU-T H.273, table 3.

Each takes a signal, 0 to 1, and returns linear light, where 1 is the white of a page.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

Transfer = Callable[[float], float]

# Nits of a page's white in an HDR picture, and of the brightest light of an HLG display
# (ITU-R BT.2408, BT.2100).
_WHITE_NITS, _HLG_PEAK_NITS = 203.0, 1000.0
# Where HDR light starts to be compressed; below, it is shown as it is.
_KNEE = 0.8


@dataclass(frozen=True)
class Gamma:
    exponent: float

    def __call__(self, v: float) -> float:
        return float(v**self.exponent)


def bt709(v: float) -> float:
    """Also BT.601 and BT.2020."""
    return v / 4.5 if v < 0.081 else ((v + 0.099) / 1.099) ** (1 / 0.45)


def srgb(v: float) -> float:
    """IEC 61966-2-1."""
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4


def pq(v: float) -> float:
    """SMPTE ST 2084."""
    m1, m2 = 2610 / 16384, 2523 / 32
    c1, c2, c3 = 107 / 128, 2413 / 128, 2392 / 128
    p = v ** (1 / m2)
    nits = 10_000 * (max(p - c1, 0.0) / (c2 - c3 * p)) ** (1 / m1)
    return _compressed(nits / _WHITE_NITS)


def hlg(v: float) -> float:
    """ITU-R BT.2100 HLG on a display of 1000 nits, whose gamma is applied to each channel."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = v * v / 3 if v <= 0.5 else (math.exp((v - c) / a) + b) / 12
    return _compressed(_HLG_PEAK_NITS * scene**1.2 / _WHITE_NITS)


# By code point. None: sRGB.
BY_CODE: dict[int, Transfer | None] = {
    1: bt709,
    4: Gamma(2.2),
    5: Gamma(2.8),
    6: bt709,
    8: Gamma(1.0),
    13: None,
    14: bt709,
    15: bt709,
    16: pq,
    18: hlg,
}


@functools.lru_cache(maxsize=16)
def table(transfer: Transfer | None, top: int, full_range: bool = True) -> list[int]:
    """The sRGB level, 0 to 255, of each of the values 0 to `top`."""
    # Narrow range: black at 16, white at 235 of 255 (H.273, 8.3).
    low, span = (0.0, 1.0) if full_range else (16 / 255, 219 / 255)
    decode = transfer or srgb
    return [
        round(255 * _encoded(decode(min(max((v / top - low) / span, 0.0), 1.0))))
        for v in range(top + 1)
    ]


def _encoded(light: float) -> float:
    """The inverse of `srgb`."""
    light = min(max(light, 0.0), 1.0)
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def _compressed(light: float) -> float:
    """Fit highlights above a page's white into what is left of the range, smoothly."""
    if light <= _KNEE:
        return light
    room = 1 - _KNEE
    return _KNEE + room * (1 - math.exp((_KNEE - light) / room))
