"""Procedural scenes with known motion: the only data of motion-small.

Every scene depends only on (seed, number), so training resumes exactly and any scene of an
evaluation can be made again. A motion is a backward displacement field u in units of the picture's
half side: frame_t(x) = picture(x + u_t(x)), x in [-1, 1]^2, x to the right, y down, u_0 = 0.
A camera term moves everything; an object term moves the objects, fading out smoothly around them,
so that a warp stretches the background instead of tearing it.
"""

from dataclasses import dataclass

import numpy as np

from workers.training.captions import AMBIENT_MOTION, Motion, caption
from workers.training.phrases import CAMERA, OBJECT, STRENGTH
from workers.training.scenery import Body, draw_body, draw_picture, grid, smoothstep

GRID = 16  # the side of a motion field
FRAMES = 8  # predicted fields, at times 1/8, 2/8, ... 1; the field at time 0 is zero
# The distance over which an object's motion fades out: wide, so that only strong drifts fold.
FADE = 0.4
AMOUNT = {"gentle": 0.6, "normal": 1.0, "strong": 1.5}
# Each at "normal" strength, over the clip, in half sides or radians.
CAMERA_AMPLITUDE = {
    "still": 0.0,
    "pan left": 0.17,
    "pan right": 0.17,
    "tilt up": 0.15,
    "tilt down": 0.15,
    "zoom in": 0.18,
    "zoom out": 0.16,
    "rotate left": 0.14,
    "rotate right": 0.14,
    "handheld": 0.07,
}
OBJECT_AMPLITUDE = {
    "still": 0.0,
    "sway": 0.16,
    "bob": 0.12,
    "ripple": 0.07,
    "spin": 0.4,
    "pulse": 0.25,
    "drift left": 0.2,
    "drift right": 0.2,
}
# When the camera pans, near things move more than far ones.
PARALLAX = 0.25
_X, _Y = grid(GRID)
_TIME = (np.arange(1, FRAMES + 1, dtype=np.float32) / FRAMES)[:, None, None]  # (T, 1, 1)
_SWING = np.sin(2 * np.pi * _TIME)  # there, back, to the other side, back
_ROUND = (1 - np.cos(2 * np.pi * _TIME)) / 2  # there and back


@dataclass(frozen=True)
class Scene:
    """A picture, its caption and its motion."""

    picture: np.ndarray  # (3, PICTURE, PICTURE) float32 in [0, 1]
    caption: str
    motion: np.ndarray  # (2, FRAMES, GRID, GRID) float32; channel 0 is x
    kind: Motion
    bodies: list[Body]
    horizon: float | None
    amount: float  # multiplies all amplitudes


def draw_motion(rng: np.random.Generator) -> Motion:
    """What happens: the camera, the objects, both, nothing, or ambient motion."""
    cameras = [name for name in CAMERA if name != "still"]
    objects = [name for name in OBJECT if name != "still"]
    u = rng.random()
    if u < 0.02:
        return Motion("still", "still", "normal")
    if u < 0.07:
        return AMBIENT_MOTION
    camera = "still" if u < 0.47 else str(rng.choice(cameras))
    thing = "still" if 0.47 <= u < 0.65 else str(rng.choice(objects))
    return Motion(camera, thing, str(rng.choice(list(STRENGTH))))


def camera_field(name: str) -> np.ndarray:
    """The camera's term at normal strength, (2, FRAMES, GRID, GRID)."""
    a = CAMERA_AMPLITUDE[name]
    zero = np.zeros_like(_X)
    if name == "handheld":  # once around a small ellipse
        steps = np.broadcast_arrays(_SWING + zero, 1.2 * _ROUND + zero)
        return a * np.stack(steps)
    end = {
        "still": (zero, zero),
        "pan left": (zero - 1, zero),
        "pan right": (zero + 1, zero),
        "tilt up": (zero, zero - 1),
        "tilt down": (zero, zero + 1),
        "zoom in": (-_X, -_Y),
        "zoom out": (_X, _Y),
        "rotate left": (-_Y, _X),
        "rotate right": (_Y, -_X),
    }[name]
    return a * np.stack(end)[:, None] * _TIME


def body_field(name: str, body: Body) -> np.ndarray:
    """The term of one object at normal strength, before its mask, (2, FRAMES, GRID, GRID)."""
    a = OBJECT_AMPLITUDE[name]
    dx, dy = _X - body.centre[0], _Y - body.centre[1]
    zero = np.zeros_like(_X)
    if name == "sway":  # rooted at its lowest point, bends more the higher it is
        lean = np.clip((body.base() - _Y) / body.height(), 0, 1.2)
        return a * np.stack([-_SWING * lean, _SWING * zero])
    if name == "bob":
        return a * np.stack([_SWING * zero, _SWING + zero])
    if name == "ripple":
        return wave()
    if name == "spin":
        return a * np.stack([_TIME * dy, -_TIME * dx])
    if name == "pulse":
        return -a * np.stack([_ROUND * dx, _ROUND * dy])
    if name.startswith("drift"):
        return a * np.stack([_TIME * (1 if name == "drift left" else -1) + zero, _TIME * zero])
    return np.zeros((2, FRAMES, GRID, GRID), np.float32)


def wave() -> np.ndarray:
    """A wave that runs to the right and swells from nothing over the first third of the clip."""
    # The wavelength of 0.9 is 7 cells of the motion grid: shorter ones bend straight lines
    # into zigzags.
    phase = 2 * np.pi * (_X / 0.9 - 1.25 * _TIME + 0.25 * _Y)
    swell = np.minimum(1.0, 3 * _TIME)
    height = OBJECT_AMPLITUDE["ripple"] * swell
    field: np.ndarray = height * np.stack([0.5 * np.cos(phase), np.sin(phase)])
    return field


def motion_field(
    camera: str, thing: str, bodies: list[Body], horizon: float | None, amount: float
) -> np.ndarray:
    """How a scene moves, (2, FRAMES, GRID, GRID) float32 in half sides."""
    masks = [smoothstep(1 - np.maximum(body.outside(_X, _Y), 0) / FADE) for body in bodies]
    crowd = np.maximum(1, sum(masks))
    near = np.minimum(1, sum(masks))
    motion = camera_field(camera) * (1 + PARALLAX * near)
    if thing == "ripple" and horizon is not None:  # water lies below a horizon
        motion = motion + wave() * smoothstep((_Y - horizon) / FADE + 0.3)
    elif thing != "still":
        for body, mask in zip(bodies, masks, strict=True):
            motion = motion + body_field(thing, body) * (mask / crowd)
    return (motion * amount).astype(np.float32)


def draw_scene(
    seed: int, number: int, *, kind: Motion | None = None, held_out: bool = False
) -> Scene:
    """Scene `number` of an endless series. Same arguments, same scene.

    `kind` fixes what happens. With `held_out`, phrases that training never uses describe the same
    scene.
    """
    rng = np.random.default_rng((seed, number))
    drawn = draw_motion(rng)
    kind = drawn if kind is None else kind
    words = caption(kind, np.random.default_rng((seed, number, 1)), held_out=held_out)
    bodies = [draw_body(rng) for _ in range(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))]
    # Water needs an area below a horizon.
    chance = 0.7 if kind.object == "ripple" else 0.3
    horizon = float(rng.uniform(-0.3, 0.4)) if rng.random() < chance else None
    picture = draw_picture(bodies, horizon, rng)
    amount = AMOUNT[kind.strength] * rng.uniform(0.9, 1.1)
    motion = motion_field(kind.camera, kind.object, bodies, horizon, amount)
    return Scene(picture, words, motion, kind, bodies, horizon, amount)
