"""Procedural scenes with known motion: the only data that motion-small ever sees.

Every scene follows from (seed, number) alone, so training resumes exactly and any scene of an
evaluation can be made again. A motion is a backward displacement field u in units of the picture's
half side: frame_t(x) = picture(x + u_t(x)), x in [-1, 1]^2, x to the right, y down, u_0 = 0.
A camera term moves everything; an object term moves the objects, fading out smoothly around them,
so that a warp stretches the background instead of tearing it.
"""

from dataclasses import dataclass

import numpy as np

from workers.training.captions import CAMERA, STRENGTH, Motion, caption

PICTURE = 32  # the side of the picture that the network sees
GRID = 16  # the side of a motion field
FRAMES = 16  # predicted fields, at times 1/16, 2/16, ... 1; the field at time 0 is zero
OVERSAMPLE = 2  # pictures are drawn larger and averaged, against jagged edges
# How far around an object its motion fades out: so wide that only strong drifts fold the picture.
FADE = 0.45
AMOUNT = {"gentle": 0.5, "normal": 1.0, "strong": 1.6}
# Each at "normal" strength, over the clip, in half sides or radians.
CAMERA_AMPLITUDE = {
    "still": 0.0,
    "pan left": 0.18,
    "pan right": 0.18,
    "tilt up": 0.16,
    "tilt down": 0.16,
    "zoom in": 0.18,
    "zoom out": 0.15,
    "rotate": 0.1,
}
OBJECT_AMPLITUDE = {
    "none": 0.0,
    "sway": 0.14,
    "bounce": 0.13,
    "ripple": 0.06,
    "waves": 0.07,
    "spin": 0.32,
    "pulse": 0.2,
    "drift left": 0.2,
    "drift right": 0.2,
}
OFTEN = {
    "sway": 3,
    "bounce": 1,
    "ripple": 2,
    "waves": 2,
    "spin": 2,
    "pulse": 2,
    "drift left": 1,
    "drift right": 1,
}
# Near things move more than far ones when the camera pans.
PARALLAX = 0.25


@dataclass(frozen=True)
class Scene:
    """A picture, what is said about it, and how it moves."""

    picture: np.ndarray  # (3, PICTURE, PICTURE) float32 in [0, 1]
    caption: str
    motion: np.ndarray  # (2, FRAMES, GRID, GRID) float32; channel 0 is x
    kind: Motion


@dataclass(frozen=True)
class Body:
    """An object: a closed outline around a centre."""

    kind: str  # "ellipse", "blob" or "box"
    centre: np.ndarray  # (2,)
    radii: np.ndarray  # (2,)
    angle: float
    lobes: int
    depth: float  # how deep the lobes of a blob are

    def outside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Roughly the distance to the outline; negative inside."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        c, s = np.cos(self.angle), np.sin(self.angle)
        p, q = (c * dx + s * dy) / self.radii[0], (c * dy - s * dx) / self.radii[1]
        if self.kind == "box":
            level = (p**6 + q**6) ** (1 / 6)  # a box with rounded corners
        else:
            level = np.hypot(p, q)
            if self.kind == "blob":
                level = level / (1 + self.depth * np.sin(self.lobes * np.arctan2(q, p)))
        return (level - 1) * self.radii.min()

    def base(self) -> float:
        """The y of the lowest point, roughly: what a plant is rooted at."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.centre[1] + np.hypot(self.radii[0] * s, self.radii[1] * c)


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the cell centres of a side x side grid over [-1, 1]^2."""
    line = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    return np.meshgrid(line, line)


def smoothstep(t: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _interpolation(cells: int, side: int) -> np.ndarray:
    """A (side, cells) matrix that resamples a line smoothly (Gaussian windows, rows sum to 1)."""
    at = (np.arange(side)[:, None] + 0.5) / side * cells - 0.5
    weight = np.exp(-((at - np.arange(cells)[None]) ** 2) / (2 * 0.5**2))
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


_SIDE = PICTURE * OVERSAMPLE
_OCTAVES = {cells: _interpolation(cells, _SIDE) for cells in (3, 6, 12, 24)}


def texture(rng: np.random.Generator, contrast: float) -> np.ndarray:
    """Coloured noise of four octaves around 0, (3, _SIDE, _SIDE)."""
    out = np.zeros((3, _SIDE, _SIDE), np.float32)
    for octave, (cells, matrix) in enumerate(_OCTAVES.items()):
        noise = rng.normal(size=(3, cells, cells)).astype(np.float32)
        noise = 0.5 * noise + 0.5 * noise.mean(0, keepdims=True)  # colours mostly go together
        out += matrix @ noise @ matrix.T * 0.6**octave
    return out * contrast


def draw_body(rng: np.random.Generator) -> Body:
    """An object of random outline, place and size."""
    long = rng.uniform(0.25, 0.6)
    return Body(
        kind=str(rng.choice(["ellipse", "blob", "box"])),
        centre=rng.uniform(-0.45, 0.45, 2),
        radii=np.array([long, long * rng.uniform(0.5, 1.0)]),
        angle=rng.uniform(0, np.pi),
        lobes=int(rng.integers(2, 6)),
        depth=rng.uniform(0.1, 0.25),
    )


def draw_motion(rng: np.random.Generator) -> Motion:
    """What happens: an object alone, both, the camera alone, or nothing."""
    u = rng.random()
    cameras = [name for name in CAMERA if name != "still"]
    # What bends or turns is harder to learn than what goes one way, and a breeze is asked for most.
    objects = [name for name, often in OFTEN.items() for _ in range(often)]
    camera = str(rng.choice(cameras)) if 0.6 <= u < 0.97 else "still"
    thing = str(rng.choice(objects)) if u < 0.8 else "none"
    strengths = ["normal"] if u >= 0.97 else list(STRENGTH)
    return Motion(camera, thing, str(rng.choice(strengths)))


def draw_picture(bodies: list[Body], horizon: float | None, rng: np.random.Generator) -> np.ndarray:
    """The picture of a scene, (3, PICTURE, PICTURE) in [0, 1]: ground, sky, salient objects."""
    x, y = grid(_SIDE)
    colour = rng.uniform(0.15, 0.85, 3).astype(np.float32)
    slope = rng.normal(size=(2, 3, 1, 1)).astype(np.float32) * 0.08
    out = colour[:, None, None] + texture(rng, rng.uniform(0.02, 0.1))
    out += slope[0] * x + slope[1] * y
    if horizon is not None:
        below = smoothstep((y - horizon) / 0.04 + 0.5)
        shift = rng.uniform(-0.3, 0.3, 3).astype(np.float32)
        ground = colour[:, None, None] + shift[:, None, None] + texture(rng, rng.uniform(0.03, 0.1))
        out = out + below * (ground - out)
    for body in bodies:
        # Salient on purpose: at least 0.35 away from the background in colour.
        other = rng.uniform(0, 1, 3).astype(np.float32)
        away = other - colour
        distance = np.linalg.norm(away)
        if distance < 0.35:
            other = colour + away / (distance + 1e-6) * 0.35
        inside = smoothstep(-body.outside(x, y) / 0.05 + 0.5)
        light = 1 + 0.15 * (body.centre[1] - y) / body.radii.min()
        fill = other[:, None, None] * light + texture(rng, rng.uniform(0.02, 0.1))
        out = out + inside * (fill - out)
    out = out.reshape(3, PICTURE, OVERSAMPLE, PICTURE, OVERSAMPLE).mean((2, 4))
    return np.clip(out, 0, 1).astype(np.float32)


def camera_field(name: str, amount: float) -> np.ndarray:
    """The camera's term, (2, FRAMES, GRID, GRID): it moves at a constant speed."""
    x, y = grid(GRID)
    zero = np.zeros_like(x)
    end = {
        "still": (zero, zero),
        "pan left": (zero - 1, zero),
        "pan right": (zero + 1, zero),
        "tilt up": (zero, zero - 1),
        "tilt down": (zero, zero + 1),
        "zoom in": (-x, -y),
        "zoom out": (x, y),
        "rotate": (-y, x),
    }[name]
    time = np.arange(1, FRAMES + 1, dtype=np.float32) / FRAMES
    return np.stack(end)[:, None] * (time * CAMERA_AMPLITUDE[name] * amount)[:, None, None]


def body_field(name: str, body: Body, amount: float) -> np.ndarray:
    """The term of one object before its mask, (2, FRAMES, GRID, GRID)."""
    x, y = grid(GRID)
    a = OBJECT_AMPLITUDE[name] * amount
    dx, dy = x - body.centre[0], y - body.centre[1]
    out = np.zeros((2, FRAMES, GRID, GRID), np.float32)
    for i in range(FRAMES):
        t = (i + 1) / FRAMES
        swing = np.sin(2 * np.pi * t)
        if name == "sway":  # rooted at its lowest point, bends more the higher it is
            height = np.clip((body.base() - y) / (2 * body.radii.max()), 0, 1.2)
            out[0, i] = -a * swing * height
        elif name == "bounce":  # up and back, twice
            out[1, i] = a * abs(swing)
        elif name in ("ripple", "waves"):
            out[:, i] = wave(x, y, t, a)
        elif name == "spin":
            angle = a * swing
            out[0, i], out[1, i] = -angle * dy, angle * dx
        elif name == "pulse":
            out[0, i], out[1, i] = -a * abs(swing) * dx, -a * abs(swing) * dy
        elif name.startswith("drift"):
            out[0, i] = a * t * (1 if name == "drift left" else -1)
    return out


def wave(x: np.ndarray, y: np.ndarray, t: float, a: float) -> np.ndarray:
    """A wave that runs to the right and swells from nothing over the first third of the clip."""
    # The wavelength of 0.8 is 6.4 cells of the motion grid: shorter ones bend straight lines
    # into zigzags.
    phase = 2 * np.pi * (x / 0.8 - 1.5 * t + 0.25 * y)
    swell = min(1.0, 3 * t)
    return a * swell * np.stack([0.5 * np.cos(phase), np.sin(phase)])


def draw_scene(seed: int, number: int) -> Scene:
    """Scene `number` of an endless series. Same arguments, same scene."""
    rng = np.random.default_rng((seed, number))
    kind = draw_motion(rng)
    bodies = [draw_body(rng) for _ in range(1 + (rng.random() < 0.3))]
    # Water needs a place to be; without a horizon the waves run over the whole picture.
    chance = 0.8 if kind.object == "waves" else 0.3
    horizon = float(rng.uniform(-0.2, 0.4)) if rng.random() < chance else None
    picture = draw_picture(bodies, horizon, rng)
    amount = AMOUNT[kind.strength] * rng.uniform(0.9, 1.1)

    x, y = grid(GRID)
    masks = [smoothstep(1 - np.maximum(body.outside(x, y), 0) / FADE) for body in bodies]
    crowd = np.maximum(1, sum(masks))
    near = np.minimum(1, sum(masks))
    motion = camera_field(kind.camera, amount) * (1 + PARALLAX * near)
    if kind.object == "waves":
        region = np.ones_like(x) if horizon is None else smoothstep((y - horizon) / FADE + 0.3)
        motion += body_field("waves", bodies[0], amount) * region
    elif kind.object != "none":
        for body, mask in zip(bodies, masks, strict=True):
            motion += body_field(kind.object, body, amount) * (mask / crowd)
    return Scene(picture, caption(kind, rng), motion.astype(np.float32), kind)
