"""Make the folder of photos that training and evaluation of layered motion use.

    python -m workers.training.layered.prepare --out photos --matte u2netp.onnx [--debian ROOT]

Reads pictures that installed packages ship (scikit-image, matplotlib; scikit-learn if it is there),
and with --debian those of wallpaper packages that are unpacked below ROOT. Needs onnxruntime. Every
source, its licence and its side of the split is in sources.py.
"""

import argparse
import json
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from workers.training.layered.photos import INDEX
from workers.training.layered.sources import SOURCES, Area, Source

SIDE = 256  # of a stored photo, its shorter one
NETWORK_SIDE = 320
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CUT = 0.3  # share of the lowest row that a subject covers if it goes on below the picture


def prepare(out: Path, matte_model: Path, debian: Path | None) -> list[str]:
    """Write the folder. Returns the names of the sources that are missing here."""
    import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]

    session = onnxruntime.InferenceSession(str(matte_model), providers=["CPUExecutionProvider"])
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
            matte = estimated(session, image)
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


def estimated(session: object, image: Image.Image) -> np.ndarray:
    """The matte of U2-Net (Qin et al. 2020, arXiv:2005.09007), (h, w) uint8."""
    small = image.resize((NETWORK_SIDE, NETWORK_SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(small, np.float32)
    pixels = (pixels / max(pixels.max(), 1) - MEAN) / STD
    name = session.get_inputs()[0].name  # type: ignore[attr-defined]
    given = {name: pixels.transpose(2, 0, 1)[None].astype(np.float32)}
    matte = session.run(None, given)[0][0, 0]  # type: ignore[attr-defined]
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
    parser.add_argument("--matte", type=Path, required=True, help="the file u2netp.onnx")
    parser.add_argument("--debian", type=Path, help="where Debian packages are unpacked, or /")
    args = parser.parse_args()
    for name in prepare(args.out, args.matte, args.debian):
        print(f"not here: {name}")


if __name__ == "__main__":
    main()
