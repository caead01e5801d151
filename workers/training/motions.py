"""What a motion means for a picture: how its camera, its subject and what is soft really move.

Words leave some things open: whether a swing begins to the left, which way a spin turns or a ripple
runs. The truth draws them, so that clips of different seeds differ.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from workers.pipeline.affine import basis, displacements
from workers.pipeline.asked import CAMERA, OBJECT, PARALLAX, STEEPEST_SWAY
from workers.pipeline.grid import place
from workers.pipeline.layer_state import centre_of, has_subject
from workers.training.captions import Motion

GRID = 16  # the side of a motion field
FRAMES = 8  # moments of a motion: 1/8, 2/8, ... 1 of the clip; at 0 everything rests
AMOUNT = {"gentle": 0.6, "normal": 1.0, "strong": 1.5}
SUBJECT, BACKGROUND = "subject", "background"
SOFT = ("sway", "ripple")  # what a background does without moving as a whole
FOLIAGE_AMPLITUDE = 0.06  # half sides
LEAST_AREA = 0.02  # of the picture: less water or foliage is as good as none
TOUCHES = 0.05  # half sides: a subject that ends nearer to the lower edge is cut by it
BEND = 0.4  # share of a sway that bends: the upper half moves more than the lower
WAVELENGTH = 0.9  # half sides, 7 cells: shorter ripples bend straight lines into zigzags
TIME = (np.arange(FRAMES, dtype=np.float32) + 1) / FRAMES
SWING = np.sin(2 * math.pi * TIME)  # there, back, to the other side, back
ROUND = (1 - np.cos(2 * math.pi * TIME)) / 2  # there and back
REST = np.tile(np.eye(2, 3, dtype=np.float32), (FRAMES, 1, 1))
_X, _Y = place(GRID)
_MODES = basis(GRID).square().mean((1, 2))  # what a coefficient adds to a field's mean square


@dataclass(frozen=True)
class Freedom:
    """What the words leave open, each 1 or -1."""

    swing: int = 1  # which way a sway, a bob or a spin begins
    travel: int = 1  # which way a wave runs
    camera_x: int = 1  # which way a handheld camera begins
    camera_y: int = 1


@dataclass(frozen=True)
class Stage:
    """What of a picture decides how it moves."""

    matte: Tensor  # (g, g) in [0, 1]
    bottom: float  # y of the subject's lowest point, in half sides
    height: float  # of the subject
    water: Tensor  # (g, g): where it is water, 0 to 1
    foliage: Tensor  # (g, g)
    lower_edge: float = 1.0  # y of the picture's own lower edge

    @cached_property
    def has_subject(self) -> bool:
        return bool(has_subject(self.matte))

    @property
    def rooted(self) -> bool:
        """Whether the picture's lower edge cuts the subject off: lifted, it would show the cut."""
        return self.height > 0 and self.bottom > self.lower_edge - TOUCHES

    @cached_property
    def centre(self) -> Tensor:
        return centre_of(self.matte)

    @cached_property
    def subject_area(self) -> Tensor:
        """(g, g): 1 on the subject, fading out around it."""
        padded = torch.nn.functional.pad(self.matte[None, None], (1, 1, 1, 1), mode="replicate")
        return (2 * torch.nn.functional.avg_pool2d(padded, 3, 1)[0, 0]).clamp(max=1)


@dataclass(frozen=True)
class Truth:
    """How a picture moves, in half sides. `body` is relative to the camera, around the subject's
    centre; soft fields lie on the picture at time 0."""

    camera: Tensor  # (T, 2, 3)
    body: Tensor  # (T, 2, 3)
    soft: Tensor  # (2, 2, T, g, g)
    masks: Tensor  # (2, g, g): where background and subject are soft

    def energies(self) -> Tensor:
        """The mean squares of camera, body, and what is soft in background and subject, (4,)."""
        paths = torch.stack([self.camera, self.body]).square().mean((1, 2)) @ _MODES
        return torch.cat([paths, self.soft.square().mean((1, 2, 3, 4))])


def freedoms(kind: Motion) -> list[Freedom]:
    """Every way in which a motion may happen."""
    swing = (1, -1) if kind.object in ("sway", "bob", "spin") else (1,)
    travel = (1, -1) if kind.object == "ripple" or is_background_sway(kind) else (1,)
    camera = (1, -1) if kind.camera == "handheld" else (1,)
    return [Freedom(*each) for each in product(swing, travel, camera, camera)]


def is_background_sway(kind: Motion) -> bool:
    """Whether foliage may sway: not if the subject is named."""
    return kind.object == "sway" and kind.target != SUBJECT


def target_of(kind: Motion, stage: Stage) -> str:
    """What an object motion moves in this picture."""
    if kind.object == "still":
        return ""
    if not stage.has_subject:
        return BACKGROUND
    # What ripples is water, and that is far more often behind a subject than on it.
    return kind.target or (BACKGROUND if kind.object == "ripple" else SUBJECT)


def truth_of(
    kind: Motion, stage: Stage, amount: float, free: Freedom, *, with_soft: bool = True
) -> Truth:
    """How a picture moves; `amount` multiplies all amplitudes.

    Without the soft part, whose fields cost most of the time, they are zero; masks are not.
    """
    target = target_of(kind, stage)
    camera = camera_maps(kind.camera, amount, free)
    own = REST
    if target == SUBJECT:
        own = body_maps(kind.object, stage, amount, free)
    elif target == BACKGROUND and kind.object not in SOFT:
        camera = _then(camera, body_maps(kind.object, None, amount, free))
    body = REST
    if stage.has_subject:
        in_front = camera_maps(kind.camera, amount, free, nearer=1 + PARALLAX)
        relative = _then(_inverse(camera), _then(in_front, own))
        body = _about(relative, -stage.centre.numpy())
    paths = displacements(torch.from_numpy(np.stack([camera, body])))
    masks = torch.zeros(2, GRID, GRID)
    soft = torch.zeros(2, 2, FRAMES, GRID, GRID)
    if kind.object in SOFT and target:
        layer = (BACKGROUND, SUBJECT).index(target)
        masks[layer] = stage.subject_area if target == SUBJECT else _background_area(kind, stage)
        if with_soft:
            field = _soft_field(kind.object, target, stage, amount, free)
            soft[layer] = field * masks[layer]
    return Truth(paths[0], paths[1], soft, masks)


def camera_maps(name: str, amount: float, free: Freedom, nearer: float = 1.0) -> np.ndarray:
    """Where a camera samples, (T, 2, 3); of things that are `nearer` than the background, too."""
    x, y, growth, turn = (part * amount for part in CAMERA[name])
    if turn:  # a turn of the picture: distance plays no role
        return _turn(turn, TIME)
    if growth:
        return _grow(nearer * growth, TIME)
    if name == "handheld":  # once around a small ellipse
        return _shift(nearer * x * free.camera_x * SWING, nearer * y * free.camera_y * ROUND)
    return _shift(nearer * x * TIME, nearer * y * TIME)


def body_maps(name: str, stage: Stage | None, amount: float, free: Freedom) -> np.ndarray:
    """Where a body by itself is sampled, (T, 2, 3): a subject, or the whole picture."""
    a = OBJECT[name] * amount
    centre = np.zeros(2, np.float32) if stage is None else stage.centre.numpy()
    if name == "sway" and stage is not None:  # rooted at its lowest point
        steep = free.swing * SWING * _steepest(stage, amount)
        maps = REST.copy()
        maps[:, 0, 1], maps[:, 0, 2] = steep, -stage.bottom * steep
        return maps
    if name == "bob" and stage is not None and stage.rooted:  # stretches, as breathing does
        stretch = amount * min(OBJECT["bob"] / stage.height, STEEPEST_SWAY / 2)
        by = free.swing * SWING * stretch
        maps = REST.copy()
        maps[:, 1, 1], maps[:, 1, 2] = 1 - by, stage.bottom * by
        return maps
    if name == "bob":
        return _shift(0 * TIME, a * free.swing * SWING)
    if name == "spin":
        return _about(_turn(-a * free.swing, TIME), centre)
    if name == "pulse":
        if stage is not None and stage.rooted:
            centre = np.array([centre[0], stage.bottom], np.float32)
        return _about(_grow(-a, ROUND), centre)
    if name in ("drift left", "drift right"):
        return _shift(a * TIME * (1 if name == "drift left" else -1), 0 * TIME)
    return REST


def _steepest(stage: Stage, amount: float) -> float:
    """How far the top of a swaying subject moves, in its own heights."""
    top = min(OBJECT["sway"], STEEPEST_SWAY * stage.height)
    return amount * top / max(stage.height, 1e-3)


def _soft_field(name: str, target: str, stage: Stage, amount: float, free: Freedom) -> Tensor:
    """(2, T, g, g) before its mask."""
    if name == "ripple":
        return amount * wave(free)
    if target == BACKGROUND:
        return amount * gusts(free)
    # A stem bends like a parabola: what is left of it without the straight part, which moves the
    # body, and without a shift of its root.
    steep = torch.from_numpy(free.swing * SWING * _steepest(stage, amount))
    height = max(stage.height, 1e-3)
    lean = ((stage.bottom - _Y) / height).clamp(0, 1.2)
    across = -BEND * steep[:, None, None] * height * (lean**2 - lean)
    return torch.stack([across, torch.zeros_like(across)])


def wave(free: Freedom) -> Tensor:
    """A wave that swells from nothing over the first third of the clip, (2, T, g, g)."""
    t = torch.from_numpy(TIME)[:, None, None]
    phase = 2 * math.pi * (free.travel * _X / WAVELENGTH - 1.25 * t + 0.25 * _Y)
    swell = OBJECT["ripple"] * (3 * t).clamp(max=1)
    return torch.stack([0.5 * swell * phase.cos(), swell * phase.sin()])


def gusts(free: Freedom) -> Tensor:
    """Leaves in the wind, (2, T, g, g): a swing that comes to each place a little later."""
    t = torch.from_numpy(TIME)[:, None, None]
    lag = 1.2 * free.travel * _X + 0.5 * _Y
    swing = (2 * math.pi * t - lag).sin() + lag.sin()
    along = -FOLIAGE_AMPLITUDE * free.swing * swing
    return torch.stack([along, 0.2 * along])


def _background_area(kind: Motion, stage: Stage) -> Tensor:
    """Where the background is soft: water ripples and foliage sways; else all that could."""
    area = stage.water if kind.object == "ripple" else stage.foliage
    if area.mean() < LEAST_AREA:
        area = (0.5 + _Y / 0.4).clamp(0, 1) if kind.object == "ripple" else torch.ones_like(_Y)
    return area


def _shift(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    maps = REST.copy()
    maps[:, 0, 2], maps[:, 1, 2] = x, y
    return maps


def _turn(angle: float, course: np.ndarray) -> np.ndarray:
    maps = REST.copy()
    cos, sin = np.cos(angle * course), np.sin(angle * course)
    maps[:, 0, 0], maps[:, 0, 1], maps[:, 1, 0], maps[:, 1, 1] = cos, -sin, sin, cos
    return maps


def _grow(by: float, course: np.ndarray) -> np.ndarray:
    maps = REST.copy()
    maps[:, 0, 0] = maps[:, 1, 1] = 1 + by * course
    return maps


def _then(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Sample where `inner` does from where `outer` does."""
    through: np.ndarray = inner[:, :, :2] @ outer
    through[:, :, 2] += inner[:, :, 2]
    return through


def _inverse(maps: np.ndarray) -> np.ndarray:
    back = np.linalg.inv(maps[:, :, :2])
    return np.concatenate([back, -back @ maps[:, :, 2:]], 2)


def _about(maps: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The same around a centre instead of the middle."""
    moved = maps.copy()
    moved[:, :, 2] += centre - maps[:, :, :2] @ centre
    return moved


def stage_of(
    matte: np.ndarray, water: np.ndarray, foliage: np.ndarray, lower_edge: float = 1.0
) -> Stage:
    """The stage of a picture whose matte, water and foliage are (p, p) arrays."""
    rows = np.flatnonzero(matte.max(1) > 0.5)
    top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, 0)
    side = len(matte)
    return Stage(
        matte=cells(matte),
        bottom=float(2 * bottom / side - 1),
        height=float(2 * (bottom - top) / side),
        water=cells(water),
        foliage=cells(foliage),
        lower_edge=lower_edge,
    )


def cells(area: np.ndarray) -> Tensor:
    """Means over the cells of the motion grid, (p, p) -> (g, g)."""
    step = len(area) // GRID
    return torch.from_numpy(area.reshape(GRID, step, GRID, step).mean((1, 3)).astype(np.float32))


def draw_amount(kind: Motion, rng: np.random.Generator) -> float:
    return float(AMOUNT[kind.strength] * rng.uniform(0.92, 1.08))
