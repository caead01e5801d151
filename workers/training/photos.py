"""Real photos: contact sheets to look at, and figures that need no ground truth."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from app.domain.prompt.reading import Grammar, understand
from workers.pipeline.animation import Animation
from workers.pipeline.grid import extent

SIDE = 256
FRAMES = 48
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the clip, for the frames of a sheet
# Public-domain or CC0 pictures that scikit-image and matplotlib ship, and what is asked of each.
PHOTOS = {
    "astronaut.png": "she sways gently, slow zoom in",
    "chelsea.png": "the cat breathes, handheld camera",
    "coffee.png": "zoom in",
    "rocket.jpg": "tilt up",
    "motorcycle_left.png": "pan right",
    "camera.png": "the man drifts left",
    "grass.png": "grass sways in the wind",
    "gravel.png": "rotate clockwise",
    "brick.png": "pan left",
    "coins.png": "the coins bob up and down",
    "moon.png": "zoom out",
    "hubble_deep_field.jpg": "rotate counterclockwise, slow zoom in",
    "retina.jpg": "pulsing",
    "grace_hopper.jpg": "",
}


def load(name: str) -> np.ndarray:
    """A photo that a package ships, (H, W, 3) uint8, its longest side SIDE."""
    package = files("matplotlib") / "mpl-data/sample_data"
    if name != "grace_hopper.jpg":
        package = files("skimage") / "data"
    with (package / name).open("rb") as file, Image.open(file) as opened:
        image = opened.convert("RGB")
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        return np.asarray(image)


def contact_sheets(animation: Animation, out: Path, count: int | None) -> list[str]:
    """Write photos.jpg, a row of frames per photo; return lines of no-reference figures.

    Figures, means over the photos: the motion's length in pixels of a 512 px picture; its second
    difference over time (jerks); how unevenly it stretches the picture (wobble: its gradient
    without zooms and rotations of the whole, in %); folds (share of grid cells turned inside out,
    must be 0).
    """
    rows, figures = [], []
    for name, prompt in list(PHOTOS.items())[:count]:
        picture = load(name)
        motion = animation.denoise(picture, prompt, 0, animation.sampling.steps)
        figures.append(no_reference(motion, *picture.shape[:2]))
        plain = understand(Grammar.LAYERED_MOTION_WORDS, prompt)
        words = prompt if plain is None else plain.plain
        frames = list(animation.animate(picture, words, seed=0, frames=FRAMES))
        chosen = [frames[round(share * (FRAMES - 1))] for share in SHARES]
        rows.append(_row(chosen, f"{name}: {prompt or '(no prompt)'}"))
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(out / "photos.jpg", quality=85)
    means = {key: float(np.mean([row[key] for row in figures])) for key in figures[0]}
    (out / "photos.json").write_text(json.dumps(dict(zip(PHOTOS, figures, strict=False)), indent=1))
    listed = ", ".join(f"{key} {value:.2f}" for key, value in means.items())
    return [f"- {len(figures)} photos: {listed}"]


def no_reference(motion: torch.Tensor, height: int, width: int) -> dict[str, float]:
    """Figures of one denoised motion, (2, T, g, g) in half sides, on a picture of this shape."""
    u = torch.cat([torch.zeros_like(motion[:, :1]), motion], 1).numpy()  # (2, T + 1, g, g)
    cell = 2 / u.shape[-1]
    du_dx, dv_dy = np.diff(u[0], axis=2) / cell, np.diff(u[1], axis=1) / cell
    stretch = [d - d.mean((1, 2), keepdims=True) for d in (du_dx, dv_dy)]
    ex, ey = extent(height, width)
    inside = slice(*(round(u.shape[-1] * (1 + sign * min(ex, ey)) / 2) for sign in (-1, 1)))
    return {
        "motion_px": float(np.linalg.norm(u, axis=0)[:, inside, inside].mean() * 256),
        "jerk_px": float(np.linalg.norm(np.diff(u, n=2, axis=1), axis=0).mean() * 256),
        "wobble_percent": float(np.mean([np.abs(d).mean() for d in stretch]) * 100),
        "fold_share": float(np.mean([(d < -1).mean() for d in (du_dx, dv_dy)])),
    }


def _row(frames: list[np.ndarray], title: str) -> np.ndarray:
    canvas = Image.new("RGB", (len(frames) * SIDE, SIDE + 18), "white")
    for number, frame in enumerate(frames):
        canvas.paste(Image.fromarray(frame), (number * SIDE, 18))
    ImageDraw.Draw(canvas).text((4, 3), title, fill="black")
    return np.asarray(canvas)
