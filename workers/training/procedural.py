"""Drawn scenes: ground, water, foliage, buildings, and a subject in front of them."""

import numpy as np

from workers.training.pictures import Picture
from workers.training.scenery import PICTURE, draw_body, grid, smoothstep, texture

HARD = 1.5 / PICTURE  # half of a hard edge's width
SUBJECTS = 0.88  # share of the pictures that have one
CLUTTER = 0.3  # share whose background has things that are no subject
_X, _Y = grid(PICTURE)


def draw(rng: np.random.Generator) -> Picture:
    """A scene's picture."""
    colours = _tint(rng, 0.1, 0.9) + _slope(rng) + texture(rng, rng.uniform(0.03, 0.18))
    water = np.zeros((PICTURE, PICTURE), np.float32)
    foliage = np.zeros_like(water)
    u = rng.random()
    horizon = float(rng.uniform(-0.4, 0.5))
    if u < 0.6:  # ground below a horizon, or water
        below = smoothstep((_Y - horizon) / (2 * rng.choice([HARD, 0.1])) + 0.5)
        if u < 0.38:
            water = below
            fill = _water(rng)
        else:
            fill = _tint(rng, 0.1, 0.9) + texture(rng, rng.uniform(0.05, 0.2))
            fill = fill + 0.15 * (_Y - horizon)
        colours = colours + (fill - colours) * below
    if rng.random() < 0.45:
        colours = _with_buildings(colours, horizon if u < 0.6 else 1.0, rng)
    if rng.random() < 0.4:
        foliage = _foliage(horizon, rng) * (1 - water)
        colours = colours + (_leaves(rng) - colours) * foliage
    if rng.random() < CLUTTER:
        spot = draw_body(rng, size=0.5)
        area = smoothstep(0.5 - spot.outside(_X, _Y) / (2 * HARD))
        colours = colours + (_tint(rng, 0.05, 0.95) + texture(rng, 0.05) - colours) * area
        water, foliage = water * (1 - area), foliage * (1 - area)
    matte = np.zeros_like(water)
    if rng.random() < SUBJECTS:
        colours, matte = _with_subject(colours, rng)
    clipped = np.clip(colours, 0, 1).astype(np.float32)
    matte, water, foliage = (area.astype(np.float32) for area in (matte, water, foliage))
    return Picture(clipped, matte, water, foliage)


def _with_subject(colours: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a subject of one to three bodies that touch; return the picture and its matte."""
    first = draw_body(rng, size=rng.uniform(0.5, 1.3))
    bodies = [first]
    for _ in range(rng.choice([0, 1, 2], p=[0.5, 0.3, 0.2])):
        other = draw_body(rng, size=rng.uniform(0.4, 0.9))
        angle = rng.uniform(0, 2 * np.pi)
        reach = 0.8 * first.radii.mean()
        other.centre[:] = first.centre + reach * np.array([np.cos(angle), np.sin(angle)])
        bodies.append(other)
    if rng.random() < 0.25:  # it goes on below the picture, as people do in portraits
        first.centre[1] = rng.uniform(0.6, 1.0)
    matte = np.zeros((PICTURE, PICTURE), np.float32)
    for body in bodies:
        edge = rng.choice([HARD, HARD, HARD, 0.05])
        area = smoothstep(0.5 - body.outside(_X, _Y) / (2 * edge))
        behind = (colours * area).sum((1, 2)) / max(float(area.sum()), 1e-3)
        fill = _contrasting(behind, rng) + texture(rng, rng.uniform(0.02, 0.15))
        light = rng.normal(0, 0.25, 2)
        fill = fill + light[0] * (_X - body.centre[0]) + light[1] * (_Y - body.centre[1])
        colours = colours + (fill - colours) * area
        matte = np.maximum(matte, area)
    return colours, matte


def _with_buildings(colours: np.ndarray, ground: float, rng: np.random.Generator) -> np.ndarray:
    """Upright rectangles with straight edges, and windows in rows."""
    for _ in range(rng.integers(1, 4)):
        left, width = rng.uniform(-1.1, 0.8), rng.uniform(0.2, 0.9)
        top = rng.uniform(-0.9, 0.2)
        inside = (left < _X) & (left + width > _X) & (top < _Y) & (ground > _Y)
        wall = _tint(rng, 0.1, 0.9) + texture(rng, 0.03)
        pitch = rng.uniform(0.1, 0.25)
        panes = (((_X - left) % pitch) < 0.5 * pitch) & (((_Y - top) % pitch) < 0.6 * pitch)
        wall = np.where(panes & (rng.random() < 0.7), _tint(rng, 0.0, 0.9), wall)
        colours = np.where(inside, wall, colours)
    return colours


def _foliage(horizon: float, rng: np.random.Generator) -> np.ndarray:
    """The area of trees, bushes or grass."""
    if rng.random() < 0.35:  # grass
        return smoothstep((_Y - rng.uniform(0.0, 0.6)) / 0.15)
    area = np.zeros((PICTURE, PICTURE), np.float32)
    for _ in range(rng.integers(1, 6)):
        cx, cy = rng.uniform(-1, 1), rng.uniform(horizon - 0.6, horizon + 0.3)
        level = np.hypot((_X - cx) / rng.uniform(0.2, 0.6), (_Y - cy) / rng.uniform(0.2, 0.5))
        area = np.maximum(area, smoothstep((1.1 - level) / 0.3))
    ragged = texture(rng, 1.0)[0]
    leafy: np.ndarray = np.clip(area * (1 + 0.6 * ragged), 0, 1) * (area > 0.1)
    return leafy


def _water(rng: np.random.Generator) -> np.ndarray:
    """Long, flat waves in a colour of water."""
    colour = np.array([[[0.25]], [[0.4]], [[0.5]]]) * rng.uniform(0.4, 1.7)
    colour = colour + rng.normal(0, 0.08, (3, 1, 1))
    rows = int(rng.integers(16, 40))
    noise = rng.standard_normal((rows, 6))
    stretched = np.repeat(noise, -(-PICTURE // rows), 0)[:PICTURE]
    lines = np.stack(
        [np.interp(np.linspace(0, 5, PICTURE), np.arange(6), line) for line in stretched]
    )
    water: np.ndarray = colour + rng.uniform(0.02, 0.1) * lines + texture(rng, 0.03)
    return water


def _leaves(rng: np.random.Generator) -> np.ndarray:
    colour = np.array([[[0.25]], [[0.4]], [[0.15]]]) * rng.uniform(0.5, 1.8)
    colour = colour + rng.normal(0, 0.06, (3, 1, 1))
    fine = rng.standard_normal((1, PICTURE, PICTURE)) * rng.uniform(0.04, 0.12)
    leaves: np.ndarray = colour + fine + texture(rng, 0.08)
    return leaves


def _tint(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    mixed = 0.6 * rng.uniform(low, high) + 0.4 * rng.uniform(low, high, (3, 1, 1))
    return np.broadcast_to(mixed, (3, PICTURE, PICTURE))


def _slope(rng: np.random.Generator) -> np.ndarray:
    slope = rng.standard_normal((2, 3, 1, 1)) * 0.1
    plane: np.ndarray = slope[0] * _X + slope[1] * _Y
    return plane


def _contrasting(behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour that roughly contrasts with what is behind."""
    for _ in range(6):
        colour = rng.uniform(0.05, 0.95, 3)
        if np.abs(colour - behind).sum() > 0.5:
            break
    return colour[:, None, None]
