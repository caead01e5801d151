"""Contact sheets of real photos: every photo with every prompt, to be looked at.

    python -m workers.training.contact --out eval/contact

Writes a page per photo: a row for each prompt, from its first frame to its last.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from app.domain.prompt.reading import Grammar, understand
from workers.pipeline.animation import Animation

SIDE = 256
FRAMES = 9  # enough for SHARES: a clip of any length passes through the same moments
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the clip, for the frames of a row
CAPTION = 18  # the height of a row's caption in pixels
# Public-domain or CC0 pictures that scikit-image and matplotlib ship.
PHOTOS = (
    *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
    *("camera.png", "grass.png", "gravel.png", "brick.png", "coins.png", "moon.png"),
    *("hubble_deep_field.jpg", "retina.jpg", "grace_hopper.jpg", "clock_motion.png", "page.png"),
)
PROMPTS = (
    "",
    "pan left",
    "zoom out",
    "it sways gently in the wind, slow zoom in",
    "it bounces up and down",
    "strong waves",
)


def load(name: str, side: int = SIDE) -> np.ndarray:
    """A photo that a package ships, (H, W, 3) uint8, its longest side at most `side`."""
    package = files("matplotlib") / "mpl-data/sample_data"
    if name != "grace_hopper.jpg":
        package = files("skimage") / "data"
    with (package / name).open("rb") as file, Image.open(file) as opened:
        image = opened.convert("RGB")
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return np.asarray(image)


def pages(animation: Animation, out: Path, count: int | None = None) -> list[Path]:
    """Write the pages of the first `count` photos, or of all."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in PHOTOS[:count]:
        picture = load(name)
        rows = []
        for prompt in PROMPTS:
            understood = understand(Grammar.LAYERED_MOTION_WORDS, prompt)
            words = prompt if understood is None else understood.plain
            frames = list(animation.animate(picture, words, seed=0, frames=FRAMES))
            chosen = [frames[round(share * (FRAMES - 1))] for share in SHARES]
            rows.append(_row(chosen, f"{name}: {prompt or '(no prompt)'} -> {words}"))
        path = out / f"{Path(name).stem}.png"
        Image.fromarray(np.concatenate(rows)).save(path)
        written.append(path)
    return written


def _row(frames: list[np.ndarray], title: str) -> np.ndarray:
    height = frames[0].shape[0]
    canvas = Image.new("RGB", (len(frames) * SIDE, height + CAPTION), "white")
    for number, frame in enumerate(frames):
        canvas.paste(Image.fromarray(frame), (number * SIDE, CAPTION))
    ImageDraw.Draw(canvas).text((4, 3), title, fill="black")
    return np.asarray(canvas)


def main() -> None:
    parser = argparse.ArgumentParser(description="Contact sheets of real photos.")
    parser.add_argument("--model", type=Path, help="a model directory; default: the shipped one")
    parser.add_argument("--out", type=Path, default=Path("eval/contact"))
    args = parser.parse_args()
    for path in pages(Animation.load(args.model), args.out):
        print(path)


if __name__ == "__main__":
    main()
