"""Pictures of procedural scenes: ground, sky, textures and objects with soft and hard edges."""

from dataclasses import dataclass

import numpy as np

PICTURE = 64  # the side of the network's input picture


@dataclass(frozen=True)
class Body:
    """An object: a closed outline around a centre, in half sides."""

    kind: str  # "ellipse", "blob", "box" or "plant"
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
        distance: np.ndarray = (level - 1) * self.radii.min()
        if self.kind == "plant":  # a head on a thin stalk
            below = np.clip(dy, 0, self.stalk)
            distance = np.minimum(distance, np.hypot(dx, dy - below) - 0.03)
        return distance

    @property
    def stalk(self) -> float:
        """The length of a plant's stalk, from the centre of its head."""
        return 2.2 * float(self.radii.max())

    def base(self) -> float:
        """The y of the lowest point, roughly, where a plant is rooted."""
        if self.kind == "plant":
            root: float = self.centre[1] + self.stalk
            return root
        c, s = np.cos(self.angle), np.sin(self.angle)
        lowest: float = self.centre[1] + np.hypot(self.radii[0] * s, self.radii[1] * c)
        return lowest

    def height(self) -> float:
        """From the lowest point to the highest, roughly."""
        return 2 * (self.base() - self.centre[1]) if self.kind != "plant" else self.stalk * 1.4


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the cell centres of a side x side grid over [-1, 1]^2, x right, y down."""
    line = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


def smoothstep(t: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.asarray(np.clip(t, 0, 1))
    smooth: np.ndarray = t * t * (3 - 2 * t)
    return smooth


def _interpolation(cells: int, side: int) -> np.ndarray:
    """A (side, cells) matrix that resamples a line smoothly (Gaussian windows, rows sum to 1)."""
    at = (np.arange(side)[:, None] + 0.5) / side * cells - 0.5
    weight = np.exp(-((at - np.arange(cells)[None]) ** 2) / (2 * 0.5**2))
    rows: np.ndarray = weight / weight.sum(1, keepdims=True)
    return rows.astype(np.float32)


_OCTAVES = {cells: _interpolation(cells, PICTURE) for cells in (2, 4, 8, 16, 32)}
_X, _Y = grid(PICTURE)
_FINE = 1.5 / PICTURE  # half of a hard edge's width


def texture(rng: np.random.Generator, contrast: float) -> np.ndarray:
    """Coloured noise around 0, (3, PICTURE, PICTURE).

    Octaves fall as in photographs (1/f) or slower; some textures run along one axis, like water,
    wood or grass.
    """
    fall = rng.uniform(0.5, 0.9)
    along = rng.choice([0, 0, 0, 1, 2])  # neither axis, x, y
    out = np.zeros((3, PICTURE, PICTURE), np.float32)
    for level, cells in enumerate(_OCTAVES):
        rows = max(2, cells // 4) if along == 2 else cells
        columns = max(2, cells // 4) if along == 1 else cells
        noise = rng.standard_normal((3, rows, columns), np.float32)
        noise = 0.4 * noise + 0.6 * noise.mean(0, keepdims=True)  # colours mostly go together
        out += (_OCTAVES[rows] @ noise @ _OCTAVES[columns].T) * fall**level
    return out * contrast


def draw_body(rng: np.random.Generator, *, size: float = 1.0) -> Body:
    """An object of random outline, place and size."""
    kind = str(rng.choice(["ellipse", "blob", "box", "plant"]))
    long = rng.uniform(0.22, 0.55) * size
    centre = rng.uniform(-0.5, 0.5, 2)
    if kind == "plant":
        long = min(long, 0.3)
        centre[1] = rng.uniform(-0.4, 0.0)
    return Body(
        kind=kind,
        centre=centre,
        radii=np.array([long, long * rng.uniform(0.5, 1.0)]),
        angle=rng.uniform(0, np.pi),
        lobes=int(rng.integers(2, 6)),
        depth=rng.uniform(0.1, 0.25),
    )


def draw_picture(bodies: list[Body], horizon: float | None, rng: np.random.Generator) -> np.ndarray:
    """The picture of a scene, (3, PICTURE, PICTURE) float32 in [0, 1]."""
    colour = rng.uniform(0.1, 0.9, (3, 1, 1)).astype(np.float32)
    slope = rng.standard_normal((2, 3, 1, 1), np.float32) * 0.1
    picture = colour + slope[0] * _X + slope[1] * _Y + texture(rng, rng.uniform(0.03, 0.18))
    if horizon is not None:
        ground = rng.uniform(0.1, 0.9, (3, 1, 1)).astype(np.float32)
        ground = ground + texture(rng, rng.uniform(0.05, 0.2)) + 0.15 * (_Y - horizon)
        width = rng.choice([_FINE, 0.1])
        picture += (ground - picture) * smoothstep((_Y - horizon) / (2 * width) + 0.5)
    for _ in range(rng.integers(0, 3)):  # clutter: flat, faint, belongs to the background
        spot = draw_body(rng, size=0.4).outside(_X, _Y)
        picture += rng.normal(0, 0.07, (3, 1, 1)) * smoothstep(0.5 - spot / 0.1)
    for body in bodies:
        distance = body.outside(_X, _Y)
        edge = rng.choice([_FINE, _FINE, 0.06, 0.12])  # hard edges and soft ones
        inside = smoothstep(0.5 - distance / (2 * edge))
        fill = _contrasting(picture, inside, rng)
        light = rng.normal(0, 0.25, 2)
        dx, dy = _X - body.centre[0], _Y - body.centre[1]
        shade = light[0] * dx + light[1] * dy
        fill = fill + shade + texture(rng, rng.uniform(0.02, 0.15))
        picture += (fill - picture) * inside
    exposure = np.clip(rng.normal(1, 0.1), 0.8, 1.2)
    exposed: np.ndarray = np.clip(picture * exposure, 0, 1)
    return exposed.astype(np.float32)


def _contrasting(picture: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour that roughly contrasts with the area that the object covers."""
    behind = (picture * inside).sum((1, 2)) / max(float(inside.sum()), 1e-3)
    for _ in range(6):
        colour = rng.uniform(0.05, 0.95, 3)
        if np.abs(colour - behind).sum() > 0.5:
            break
    return colour.astype(np.float32)[:, None, None]
