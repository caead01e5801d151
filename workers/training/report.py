"""The figures of an evaluation's arms, and how arms compare."""

from dataclasses import dataclass

import numpy as np

from workers.training.arms import Arm
from workers.training.captions import Motion

# Mean end-point errors of motion-small 0.3.0, which moved one sheet, on the first N composites of
# the photos that packages ship: its student, asked in its own words.
SHEET_PX = {16: 10.24, 256: 12.00, 512: 12.46}


@dataclass(frozen=True)
class Measured:
    """One row per scene, all arrays (N,)."""

    found: list[Motion]
    asked: list[Motion]
    error_px: np.ndarray  # mean end-point error of a 512 px picture
    strength: np.ndarray  # of the camera, as a share of the true one; nan for a still camera

    @property
    def hit(self) -> np.ndarray:
        return np.array([f == a for f, a in zip(self.found, self.asked, strict=True)], float)


@dataclass(frozen=True)
class Result:
    """One arm's figures."""

    arm: Arm
    measured: Measured

    @property
    def scenes(self) -> int:
        return len(self.measured.asked)


def interval(values: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of a mean, by bootstrap over scenes."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def pairs_of(measured: Measured) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Per scene, (camera, object) as found in the sampled motion and as asked for."""
    return [
        ((found.camera, found.object), (asked.camera, asked.object))
        for found, asked in zip(measured.found, measured.asked, strict=True)
    ]


def summary(measured: Measured) -> dict[str, float]:
    """The figures of one arm. Shares are between 0 and 1."""
    pairs = list(zip(measured.found, measured.asked, strict=True))
    found_px = measured.error_px[measured.hit > 0]
    ripples = [f == a for f, a in pairs if a.object == "ripple"]
    return {
        "adherence": float(measured.hit.mean()),
        "adherence_camera": float(np.mean([f.camera == a.camera for f, a in pairs])),
        "adherence_object": float(
            np.mean([(f.object, f.target) == (a.object, a.target) for f, a in pairs])
        ),
        "adherence_ripple": float(np.mean(ripples)) if ripples else float("nan"),
        "end_point_error_px": float(measured.error_px.mean()),
        "end_point_error_found_px": float(found_px.mean()) if len(found_px) else float("nan"),
        "camera_strength": float(np.nanmedian(measured.strength)),
    }


def table(results: dict[str, Result], sheet_px: float) -> str:
    """The figures as a Markdown table, adherence with its 95 % interval."""
    lines = [
        "| network, steps x passes | passes | scenes | adherence | camera | object | ripple "
        "| end-point error, px | where found | of 0.3.0's |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        s = summary(result.measured)
        low, high = interval(result.measured.hit)
        lines.append(
            f"| {name} | {result.arm.passes} | {result.scenes} "
            f"| {s['adherence']:.1%} ({low:.1%} to {high:.1%}) | {s['adherence_camera']:.1%} "
            f"| {s['adherence_object']:.1%} | {s['adherence_ripple']:.1%} "
            f"| {s['end_point_error_px']:.2f} | {s['end_point_error_found_px']:.2f} "
            f"| {s['end_point_error_px'] / sheet_px:.2f} |"
        )
    return "\n".join(lines)


def paired(results: dict[str, Result], a: str, b: str) -> str:
    """How much more often a hits than b on the same scenes, and how its error compares."""
    first, second = results[a].measured, results[b].measured
    hits = first.hit - second.hit
    low, high = interval(hits)
    ratio = first.error_px.mean() / second.error_px.mean()
    points = f"{hits.mean() * 100:+.1f} points ({low * 100:+.1f} to {high * 100:+.1f})"
    both = _where(first, second, first.hit * second.hit)
    alone = _where(first, second, first.hit * (1 - second.hit))
    return (
        f"{a} - {b}: {points}, error {ratio:.2f} x; {both} where both find the motion, {alone} "
        f"where the first alone does"
    )


def _where(first: Measured, second: Measured, chosen: np.ndarray) -> str:
    if not chosen.any():
        return "no scene"
    ratio = (first.error_px * chosen).sum() / (second.error_px * chosen).sum()
    return f"{ratio:.2f} x in the {int(chosen.sum())} scenes"
