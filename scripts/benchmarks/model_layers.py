"""What the layers promise: nothing folds, bends, drifts or zooms that was not asked to.

    python -m scripts.benchmarks.model_layers    # these figures alone

Motion comes from the shipped student, on real photos that packages ship, as in a worker.
"""

import itertools
import time
from statistics import median

import numpy as np
import torch

from scripts.benchmarks.figures import Figure, table
from workers.pipeline.animation import Animation
from workers.pipeline.composite import Composite
from workers.pipeline.grid import extent, grid_weights
from workers.pipeline.layers import LayeredMotion, maps, zoom_of
from workers.training.contact import PHOTOS, load

CAMERAS = ("pan left", "pan right", "tilt up", "tilt down", "rotate left", "handheld")
BODIES = ("sway", "bob", "spin", "pulse", "drift left", "drift right")
SOFT = ("ripple", "strongly sway", "strongly background sway", "ripple, zoom in")
SHAPES = ((384, 512), (512, 384), (128, 512), (512, 512))
PX = 256  # pixels of a half side at 512 px
FRAMES = 48
POINTS = 65  # along each side, where folds are looked for


def figures(animation: Animation, *, quick: bool) -> list[Figure]:
    """All figures of the layers."""
    clips = 40 if quick else 1000
    return [
        Figure("folds_of_1000", 1000 * folds(animation, clips) / clips, at_most=0),
        Figure("line_bend_px", line_bend(animation), at_most=0.3),
        Figure("background_drift_px", background_drift(animation), at_most=0.5),
        Figure("loop_velocity_jump_px", loop_jump(animation), at_most=0.5),
        Figure("unasked_zoom_percent", unasked_zoom(animation), at_most=4),
        Figure("matte_ms", matte_ms(animation)),
    ]


def layered(animation: Animation, picture: np.ndarray, prompt: str, seed: int) -> LayeredMotion:
    """The motion of a clip, before it is limited."""
    return animation.denoise(picture, animation.subjects.find(picture), prompt, seed)


def folds(animation: Animation, clips: int) -> int:
    """How many clips fold somewhere, of prompts for everything that bends, at `motion` 1 and 2."""
    names = PHOTOS
    found = 0
    for number in range(clips):
        picture = load(names[number % len(names)])
        prompt = SOFT[number // len(names) % len(SOFT)]
        motion = layered(animation, picture, prompt, number).scaled(1 + number % 2)
        limited = motion.dense().limited(*picture.shape[:2])
        found += any(least_area(limited, layer, picture.shape[:2]) <= 0 for layer in (0, 1))
    return found


def least_area(motion: LayeredMotion, layer: int, shape: tuple[int, ...]) -> float:
    """The least determinant of a layer's Jacobian over the picture and the clip."""
    u = displacement(motion, layer, shape, POINTS)
    ex, ey = extent(shape[0], shape[1])
    steps = (2 * ex / (POINTS - 1), 2 * ey / (POINTS - 1))
    d_x = u.diff(dim=3)[..., :-1, :] / steps[0]
    d_y = u.diff(dim=2)[..., :-1] / steps[1]
    return float(((1 + d_x[0]) * (1 + d_y[1]) - d_x[1] * d_y[0]).amin())


def displacement(
    motion: LayeredMotion, layer: int, shape: tuple[int, ...], points: int
) -> torch.Tensor:
    """Displacements (2, n, points, points) of a layer, from edge to edge of the picture."""
    ex, ey = extent(shape[0], shape[1])
    line = torch.linspace(-1, 1, points)
    soft = motion.soft[layer]
    bent = (
        grid_weights(line * ey, soft.shape[-1]) @ soft @ grid_weights(line * ex, soft.shape[-1]).T
    )
    y, x = torch.meshgrid(line * ey, line * ex, indexing="ij")
    at = torch.stack([x, y, torch.ones_like(x)])
    path = (motion.camera, motion.body)[layer]
    return torch.einsum("nck,kij->cnij", maps(path), at) - at[:2, None] + bent


def line_bend(animation: Animation) -> float:
    """RMS distance in pixels of straight lines' points from a straight line, in the last frame.

    The worst camera motion: lines are drawn into a picture of 512 px, found again, and fitted.
    """
    picture = np.full((512, 512, 3), 230, np.uint8)
    for column in range(100, 512, 104):
        picture[:, column - 2 : column + 2] = 20
    worst = 0.0
    for prompt in (*CAMERAS, "strongly zoom in", "zoom out"):
        motion = layered(animation, picture, prompt, 0)
        clip = Composite(picture, motion, 9)
        for frame in list(clip)[8:]:
            for line in _traced(255.0 - frame[..., 0], clip.camera[-1], 512):
                fit = np.polyval(np.polyfit(line[:, 0], line[:, 1], 1), line[:, 0])
                worst = max(worst, float(np.sqrt(np.square(line[:, 1] - fit).mean())))
    return worst


def _traced(dark: np.ndarray, back: np.ndarray, side: int) -> list[np.ndarray]:
    """Points (row, column) of each drawn line in a frame, near where the camera has taken it.

    back (2, 3): from the frame to the picture, in half sides.
    """
    inverse = np.linalg.inv(np.vstack([back, [0, 0, 1]]))
    lines = []
    for column in range(100, side, 104):
        ends = (
            np.array([[(column - 0.5 + 0.5) / 256 - 1, y, 1] for y in (-1.5, 1.5)]) @ inverse[:2].T
        )
        points = []
        for row in range(20, side - 20, 4):
            y = (row + 0.5) / 256 - 1
            share = (y - ends[0, 1]) / (ends[1, 1] - ends[0, 1])
            near = round((ends[0, 0] + share * (ends[1, 0] - ends[0, 0]) + 1) * 256 - 0.5)
            # Beyond the picture, lines are made of its patches.
            shown = back @ ((near + 0.5) / 256 - 1, y, 1)
            if 12 <= near < side - 12 and np.abs(shown).max() < 0.94:
                weight = np.maximum(dark[row, near - 8 : near + 9] - 40, 0)
                if weight.sum() > 50:
                    points.append((row, near - 8 + (weight * np.arange(17)).sum() / weight.sum()))
        if len(points) > 20:
            lines.append(np.array(points))
    return lines


def background_drift(animation: Animation) -> float:
    """How far the background moves, in pixels of 512, where only the subject was asked to."""
    worst = 0.0
    for name, prompt in itertools.product(("astronaut.png", "chelsea.png"), BODIES):
        picture = load(name)
        motion = layered(animation, picture, prompt, 0).dense().limited(*picture.shape[:2])
        moves = displacement(motion, 0, picture.shape, POINTS)
        worst = max(worst, float(moves.norm(dim=0).max()) * PX)
    return worst


def loop_jump(animation: Animation) -> float:
    """How much more the velocity changes where a loop closes than anywhere else, in pixels of 512
    per frame."""
    worst = 0.0
    picture = load("coffee.png")
    for prompt in (*CAMERAS, *BODIES, "ripple"):
        motion = layered(animation, picture, prompt, 0)
        clip = Composite(picture, motion, FRAMES, loop=True)
        for layer in (0, 1):
            u = displacement(clip.motion, layer, picture.shape, 9) * PX
            around = torch.cat([u, u[:, :2]], 1)
            change = around.diff(n=2, dim=1).norm(dim=0).amax((1, 2))
            worst = max(worst, float(change[-2:].max() - change[:-2].max()))
    return worst


def unasked_zoom(animation: Animation) -> float:
    """By how many per cent a clip magnifies at most that was not asked to zoom."""
    worst = 0.0
    noise = np.random.default_rng(0)
    plain = [noise.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
    # A body needs a subject: without one, the clip is the ambient zoom.
    asked = [
        *itertools.product(plain, CAMERAS),
        *itertools.product([load("astronaut.png")], (b for b in BODIES if b != "pulse")),
    ]
    for picture, prompt in asked:
        shape = picture.shape[:2]
        motion = layered(animation, picture, prompt, 0).dense().limited(*shape)
        worst = max(worst, 100 * (zoom_of(motion.camera) - 1))
    return worst


def matte_ms(animation: Animation) -> float:
    """Milliseconds that finding a new picture's subject takes."""
    seconds = []
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png"):
        picture = load(name)
        animation.subjects.forget()
        started = time.perf_counter()
        animation.subjects.find(picture)
        seconds.append(time.perf_counter() - started)
    return 1e3 * median(seconds)


if __name__ == "__main__":
    from rich.console import Console

    loaded = Animation.load(graph="torchscript")
    Console().print(table("layers", figures(loaded, quick=True)))
