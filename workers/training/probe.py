"""A look at a running training: how well its averaged weights animate a few unseen scenes.

The figures are rough: few scenes, eight steps without guidance.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workers.pipeline.affine import to_fields
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.layers import LayeredMotion
from workers.pipeline.loader import ModelConfig, Sampling
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.text import Tokeniser
from workers.training.captions import Motion
from workers.training.flow import possible_motions, visible_flow
from workers.training.motions import BACKGROUND, SOFT, SUBJECT
from workers.training.photos import PhotoSet
from workers.training.phrases import CAMERA, OBJECT, STRENGTH
from workers.training.prompts import plain
from workers.training.run import device
from workers.training.sample import sample_motions
from workers.training.scenes import Scene, draw_scene

SEED = 20_261_125  # another series than training's
SCENES = 48
POINTS = 32
HALF_SIDE_PX = 256  # of a 512 px picture
SAMPLING = Sampling(steps=8, guided=False, order=1)
PARTS = ["camera", "body", "soft", "where"]
STRENGTHS = [f"camera_{name}" for name in STRENGTH]
COLUMNS = ["step", *PARTS, "error_px", "error_camera_px", *STRENGTHS]


class Probe:
    """Collects the parts of the loss, and samples when it is called."""

    def __init__(
        self, out: Path, config: ModelConfig, photos: PhotoSet | None, count: int = SCENES
    ):
        self.file = out / "probes.csv"
        self.config = config
        self.photos = photos
        self.count = count
        self.noted: list[dict[str, Tensor]] = []
        self.scenes: list[Scene] = []

    def note(self, parts: dict[str, Tensor]) -> None:
        """Remember the parts of a step's loss, without waiting for them."""
        self.noted.append(parts)

    def __call__(self, step: int, weights: dict[str, Tensor]) -> None:
        """Append a row of figures; see COLUMNS."""
        if not self.scenes:
            self.scenes = unseen_scenes(self.photos, self.count)
        network = LayeredDenoiser(self.config.network)
        network.load_state_dict(weights)
        motions = self._sample(network.to(device()).eval())
        errors, strengths = compare(motions, self.scenes)
        means = {name: self._mean(name) for name in PARTS}
        self.noted = []
        asked = np.array([scene.kind.strength for scene in self.scenes])
        camera = np.array([scene.kind.camera != "still" for scene in self.scenes])
        only = camera & np.array([scene.kind.object == "still" for scene in self.scenes])
        row = {
            "step": step,
            **means,
            "error_px": errors.mean(),
            "error_camera_px": errors[only].mean() if only.any() else np.nan,
            **{
                f"camera_{name}": np.nanmedian(strengths[camera & (asked == name)])
                for name in STRENGTH
            },
        }
        new = not self.file.exists()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", newline="") as file:
            rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                rows.writeheader()
            rows.writerow({k: v if k == "step" else round(float(v), 4) for k, v in row.items()})
        print(", ".join(f"{k} {float(v):.3g}" for k, v in row.items()), flush=True)

    def _mean(self, part: str) -> float:
        values = [noted[part].float() for noted in self.noted if part in noted]
        return torch.stack(values).mean().item() if values else float("nan")

    def _sample(self, network: LayeredDenoiser) -> list[LayeredMotion]:
        shape = self.config.network
        noise = LayeredNoise(shape.frames, shape.grid)
        starts = noise.draw(len(self.scenes), torch.Generator().manual_seed(SEED))
        known = frozenset(self.config.vocabulary)
        tokenise = Tokeniser(shape.caption_length, shape.buckets, known)
        scales = self.config.layer_scales
        return sample_motions(network, starts, tokenise, scales, self.scenes, SAMPLING)


def unseen_scenes(photos: PhotoSet | None, count: int, seed: int = SEED) -> list[Scene]:
    """Scenes that cover cameras, objects, targets and strengths in a fixed, shuffled order."""
    kinds = [
        Motion(camera, thing, strength, target)
        for camera, thing, strength, target in product(
            CAMERA, OBJECT, STRENGTH, ("", SUBJECT, BACKGROUND)
        )
        if (camera, thing) != ("still", "still")
        and not (thing == "still" and target)
        and not (target == BACKGROUND and thing not in SOFT and camera != "still")
    ]
    order = np.random.default_rng(seed).permutation(len(kinds))
    found: list[Scene] = []
    number = 0
    while len(found) < count:
        kind = kinds[order[len(found) % len(kinds)]]
        scene = draw_scene(seed, number, photos, kind=kind, real=photos is not None)
        number += 1
        if scene.stage.has_subject:  # without one, a body has nothing to move
            found.append(replace(scene, prompt=plain(kind)))
    return found


def compare(motions: list[LayeredMotion], scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """End-point errors in pixels, and `strengths_of` the cameras."""
    errors = [
        nearest(visible_flow(motion, torch.from_numpy(scene.picture.matte), POINTS), scene)[0]
        for motion, scene in zip(motions, scenes, strict=True)
    ]
    return np.array(errors), strengths_of(motions, scenes)


def strengths_of(motions: Sequence[LayeredMotion], scenes: Sequence[Scene]) -> np.ndarray:
    """The strengths of the cameras along the true ones, in shares of them; nan if they are still.

    Of the ways that the words allow, the one that is followed most.
    """
    found = []
    for motion, scene in zip(motions, scenes, strict=True):
        got = to_fields(motion.camera, motion.soft.shape[-1])
        shares = [np.nan]
        if scene.kind.camera != "still":
            paths = [true.camera for _, true in possible_motions(scene)]
            fields = [to_fields(path, got.shape[-1]) for path in paths]
            shares = [((got * f).sum() / f.square().sum()).item() for f in fields]
        found.append(max(shares))
    return np.array(found)


def nearest(flow: Tensor, scene: Scene) -> tuple[float, LayeredMotion]:
    """The mean end-point error of a flow (2, T, n, n) to the nearest motion that a scene's words
    allow, in pixels, and that motion."""
    matte = torch.from_numpy(scene.picture.matte)
    found = []
    for _, motion in possible_motions(scene):
        true = visible_flow(motion, matte, flow.shape[-1])
        error = (flow - true).square().sum(0).sqrt().mean().item() * HALF_SIDE_PX
        found.append((error, motion))
    return min(found, key=lambda pair: pair[0])
