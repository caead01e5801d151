"""Which red, green, blue and white a picture's numbers mean."""

import struct
from typing import NamedTuple

Point = tuple[float, float]  # CIE 1931 x, y
Matrix = tuple[tuple[float, ...], ...]  # rows


class Primaries(NamedTuple):
    red: Point
    green: Point
    blue: Point
    white: Point


_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
SRGB = Primaries((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
_SMPTE_C = Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)

# By code point (ITU-T H.273, table 2).
BY_CODE = {
    1: SRGB,
    4: Primaries((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: _SMPTE_C,
    7: _SMPTE_C,
    8: Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}

_D50 = (0.9642, 1.0, 0.8249)  # ICC.1, 7.2.16
_BRADFORD: Matrix = (
    (0.8951, 0.2664, -0.1614),
    (-0.7502, 1.7135, 0.0367),
    (0.0389, -0.0685, 1.0296),
)


def icc_profile(primaries: Primaries) -> bytes:
    """A profile of these primaries with sRGB's transfer function (ICC.1:2022).

    Raises:
        ValueError: they span no colours.
    """
    try:
        columns = zip(*_to_d50(primaries), strict=True)
        colorants = [b"XYZ " + bytes(4) + _fixed(*column) for column in columns]
    except (ZeroDivisionError, OverflowError, struct.error) as error:
        raise ValueError("primaries span no colours") from error
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0)
    curve += _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    names = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
    directory_end = 128 + 4 + 12 * len(names)
    at = [directory_end + 20 * i for i in range(3)] + [directory_end + 60] * 3
    body = struct.pack(">I", len(names))
    for name, offset in zip(names, at, strict=True):
        body += struct.pack(">4sII", name, offset, 20 if name.endswith(b"XYZ") else len(curve))
    body += b"".join(colorants) + curve
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), b"", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2022, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_D50)
    return header.ljust(128, b"\0") + body


def _to_d50(primaries: Primaries) -> Matrix:
    """Linear RGB to XYZ, adapted to the D50 of ICC profiles (Bradford)."""
    x = [_xyz(point) for point in primaries[:3]]
    columns: Matrix = tuple(zip(*x, strict=True))
    white = _xyz(primaries.white)
    scale = _times(_inverse(columns), white)
    to_xyz = tuple(tuple(v * s for v, s in zip(row, scale, strict=True)) for row in columns)
    cones = (_times(_BRADFORD, _D50), _times(_BRADFORD, white))
    gains = tuple(to / own for to, own in zip(*cones, strict=True))
    scaled = tuple(tuple(gain * v for v in row) for gain, row in zip(gains, _BRADFORD, strict=True))
    return _product(_product(_inverse(_BRADFORD), scaled), to_xyz)


def _xyz(point: Point) -> tuple[float, float, float]:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _times(m: Matrix, v: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sum(a * b for a, b in zip(row, v, strict=True)) for row in m)


def _product(m: Matrix, n: Matrix) -> Matrix:
    return tuple(zip(*(_times(m, column) for column in zip(*n, strict=True)), strict=True))


def _inverse(m: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = m
    p, q, r = e * i - f * h, f * g - d * i, d * h - e * g
    det = a * p + b * q + c * r
    if abs(det) < 1e-6:
        raise ZeroDivisionError
    return (
        (p / det, (c * h - b * i) / det, (b * f - c * e) / det),
        (q / det, (a * i - c * g) / det, (c * d - a * f) / det),
        (r / det, (b * g - a * h) / det, (a * e - b * d) / det),
    )


def _fixed(*values: float) -> bytes:
    """s15Fixed16Number."""
    return struct.pack(f">{len(values)}i", *(round(65536 * v) for v in values))
