"""Make the folder of photos that training and evaluation of layered motion use.

    python -m workers.training.prepare --out photos [--debian ROOT]

Reads pictures that installed packages ship (scikit-image, matplotlib; scikit-learn if it is there),
and with --debian those of wallpaper packages that are unpacked below ROOT. Every
source, its licence and its side of the split is in sources.py.
"""

import argparse
import json
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from workers.pipeline.errors import MatteError
from workers.pipeline.matte import MatteModel, load_matte
from workers.pipeline.matte_file import PACKAGED
from workers.training.photos import INDEX, PhotoSet
from workers.training.sources import SOURCES, Area, Source

SIDE = 256  # of a stored photo, its shorter one
CUT = 0.3  # share of the lowest row that a subject covers if it goes on below the picture


def packaged_photos(folder: Path) -> PhotoSet:
    """The photos of evaluation, all of which packages ship; makes the folder if it is not there."""
    if not (folder / INDEX).exists():
        prepare(folder, PACKAGED, None)
    return PhotoSet.load(folder, held_out=True)


def prepare(out: Path, matte_model: str, debian: Path | None) -> list[str]:
    """Write the folder. Returns the names of the sources that are missing here.

    matte_model: see load_matte. Raises MatteError.
    """
    model = load_matte(matte_model)
    if model is None:
        raise MatteError("Photos need a matte model to cut their subjects out.")
    out.mkdir(parents=True, exist_ok=True)
    index, missing = [], []
    for source in SOURCES:
        image = opened(source, debian)
        if image is None:
            missing.append(source.name)
            continue
        scale = SIDE / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
        matte = np.zeros(size[::-1], np.uint8)
        if source.subject:
            matte = estimated(model, image)
        areas = [Image.fromarray(matte), drawn(source.water, size), drawn(source.foliage, size)]
        image.save(out / f"{source.name}.png")
        Image.merge("RGB", areas).save(out / f"{source.name}-areas.png")
        cut = (matte[-1] > 127).mean() > CUT or matte[-1].max() > 200
        index.append(
            {
                "name": source.name,
                "has_subject": source.subject,
                "cut_below": bool(cut),
                "held_out": source.held_out,
                "licence": source.licence,
            }
        )
    (out / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return missing


def opened(source: Source, debian: Path | None) -> Image.Image | None:
    """A source's picture, None if its package is not here."""
    package, _, inside = source.file.partition(":")
    if package == "debian":
        path = None if debian is None else debian / inside
        if path is None or not path.exists():
            return None
        with Image.open(path) as image:
            return image.convert("RGB")
    if find_spec(package) is None:
        return None
    file = files(package) / inside
    if not file.is_file():
        return None
    with file.open("rb") as stream, Image.open(stream) as image:
        return image.convert("RGB")


def estimated(model: MatteModel, image: Image.Image) -> np.ndarray:
    """The matte of a photo that has a subject, stretched to the full range: (h, w) uint8."""
    matte = model(np.asarray(image))
    matte = (matte - matte.min()) / max(float(matte.max() - matte.min()), 1e-6)
    found = Image.fromarray((matte * 255).astype(np.uint8))
    return np.asarray(found.resize(image.size, Image.Resampling.LANCZOS))


def drawn(polygons: tuple[Area, ...], size: tuple[int, int]) -> Image.Image:
    """Polygons in shares of width and height as an image of 0 and 255."""
    image = Image.new("L", size)
    for polygon in polygons:
        points = [(x * size[0], y * size[1]) for x, y in polygon]
        ImageDraw.Draw(image).polygon(points, fill=255)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the folder of photos.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--matte", default=PACKAGED, help="a matte model, as MATTE_MODEL")
    parser.add_argument("--debian", type=Path, help="where Debian packages are unpacked, or /")
    args = parser.parse_args()
    for name in prepare(args.out, args.matte, args.debian):
        print(f"not here: {name}")


if __name__ == "__main__":
    main()
