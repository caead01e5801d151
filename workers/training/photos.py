"""Photos and cut-outs: real pictures whose subjects and soft areas are known.

`prepare.py` writes a folder of them, from packages that ship free pictures.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from workers.training import procedural
from workers.training.pictures import Picture
from workers.training.scenery import PICTURE

INDEX = "index.json"
# Shares of the pictures: a photo as it is, a cut-out before a photo, else before a drawn scene.
WHOLE, BEFORE_PHOTO = 0.4, 0.45


@dataclass(frozen=True)
class Photo:
    """`areas`: matte, water and foliage as the channels of one image."""

    name: str
    colours: Image.Image  # RGB
    areas: Image.Image  # RGB
    has_subject: bool
    cut_below: bool  # the subject goes on below the picture


@dataclass(frozen=True)
class PhotoSet:
    """Photos of one side of the split between training and evaluation."""

    photos: tuple[Photo, ...]

    @classmethod
    def load(cls, directory: Path, *, held_out: bool) -> Self:
        """Read a folder that prepare.py wrote. Raises OSError if there is none."""
        listed = json.loads((directory / INDEX).read_text())
        photos = [
            Photo(
                entry["name"],
                Image.open(directory / f"{entry['name']}.png").convert("RGB"),
                Image.open(directory / f"{entry['name']}-areas.png").convert("RGB"),
                entry["has_subject"],
                entry["cut_below"],
            )
            for entry in listed
            if entry["held_out"] == held_out
        ]
        if not any(photo.has_subject for photo in photos) or len(photos) < 2:
            raise OSError(f"{directory} has too few photos")
        return cls(tuple(photos))

    def draw(self, rng: np.random.Generator, *, real: bool = False) -> Picture:
        """A photo as it is, or a cut-out before another; `real`: never before a drawn scene."""
        u = rng.random() * (WHOLE + BEFORE_PHOTO if real else 1)
        if u < WHOLE:
            return _cropped(self.photos[rng.integers(len(self.photos))], rng)
        subjects = [photo for photo in self.photos if photo.has_subject]
        subject = subjects[rng.integers(len(subjects))]
        if u < WHOLE + BEFORE_PHOTO:
            grounds = [photo for photo in self.photos if not photo.has_subject]
            behind = _cropped(grounds[rng.integers(len(grounds))], rng)
        else:
            behind = procedural.draw(rng)
        return _pasted(subject, behind, rng)


def _cropped(photo: Photo, rng: np.random.Generator) -> Picture:
    """A square part of a photo; most of it, if it has a subject."""
    width, height = photo.colours.size
    shortest = min(width, height)
    side = shortest * rng.uniform(0.8 if photo.has_subject else 0.45, 1)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    if photo.cut_below:
        top = height - side
    box = (left, top, left + side, top + side)
    return _picture(*(_resized(image, box) for image in (photo.colours, photo.areas)))


def _pasted(subject: Photo, behind: Picture, rng: np.random.Generator) -> Picture:
    """A cut-out in front of another picture."""
    matte = subject.areas.getchannel(0)
    box = matte.point(lambda level: 255 * (level > 64)).getbbox() or (0, 0, *matte.size)
    high = box[3] - box[1]
    scale = rng.uniform(0.35, 1.0) * PICTURE / max(high, (box[2] - box[0]) / 1.2)
    size = (max(2, round((box[2] - box[0]) * scale)), max(2, round(high * scale)))
    cut = subject.colours.copy()
    cut.putalpha(matte)
    cut = cut.resize(size, Image.Resampling.BICUBIC, box)  # Pillow weights colours by alpha
    left = round(rng.uniform(-0.2 * size[0], PICTURE - 0.8 * size[0]))
    low, high = 0, max(1, PICTURE - size[1])
    top = PICTURE - size[1] if subject.cut_below else int(rng.integers(low, high + 1))
    sheet = Image.new("RGBA", (PICTURE, PICTURE))
    sheet.paste(cut, (left, top))
    pixels = np.asarray(sheet, np.float32) / 255
    alpha = pixels[..., 3]
    colours = behind.colours + (pixels[..., :3].transpose(2, 0, 1) - behind.colours) * alpha
    alone = 1 - alpha
    return Picture(colours, alpha, behind.water * alone, behind.foliage * alone)


def _resized(image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    small = image.resize((PICTURE, PICTURE), Image.Resampling.BICUBIC, box)
    return (np.asarray(small, np.float32) / 255).transpose(2, 0, 1)


def _picture(colours: np.ndarray, areas: np.ndarray) -> Picture:
    matte, water, foliage = areas
    return Picture(colours, matte, water * (1 - matte), foliage * (1 - matte))
