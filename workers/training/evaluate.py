"""Measure networks on composites of photos that training never saw, whose true motion is known.

    python -m workers.training.evaluate --model runs/motion/model --photos photos
    python -m workers.training.evaluate ... --arms teacher --count 64    # a look

Every arm (a network, and how it is sampled and asked) gets the same scenes and the same noise, so
arms are compared in pairs. Words leave directions open: a motion counts as the nearest of those
that its words allow.
"""

import argparse
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.animation import SHIPPED, pick_dtype
from workers.pipeline.guidance import GUIDED_PASSES
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.layers import LayeredMotion
from workers.pipeline.loader import (
    STUDENT,
    TEACHER,
    ModelConfig,
    Sampling,
    load_config,
    load_network,
)
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.text import Tokeniser
from workers.training.captions import Motion
from workers.training.flow import SEEN, motion_of, visible_flow
from workers.training.motions import (
    BACKGROUND,
    SOFT,
    SUBJECT,
    freedoms,
    target_of,
    truth_of,
)
from workers.training.photos import PhotoSet
from workers.training.phrases import CAMERA, OBJECT, STRENGTH
from workers.training.probe import (
    POINTS,
    nearest,
    strengths_of,
    unseen_scenes,
)
from workers.training.prompts import plain, prompt
from workers.training.run import device
from workers.training.sample import sample_motions
from workers.training.scenes import Scene

SEED = 20_261_126
FOUND_POINTS = 16  # places along each side at which motions are compared with the vocabulary
STILL_PX = 0.5  # root mean square, of a 512 px picture; less is as good as nothing
STILL = STILL_PX / 256
# Mean end-point errors of motion-small 0.3.0, which moved one sheet, on the first N composites of
# the photos that packages ship: its student, asked in its own words.
SHEET_PX = {16: 10.24, 256: 12.00, 512: 12.46}
PLAIN, FREE, HELD_OUT = "plain words", "free phrases", "held-out phrases"


@dataclass(frozen=True)
class Arm:
    """A network and a way to sample and ask it."""

    name: str
    network: LayeredDenoiser
    sampling: Sampling
    words: str = PLAIN

    @property
    def passes(self) -> int:
        return self.sampling.steps * (GUIDED_PASSES if self.sampling.guided else 1)


@dataclass(frozen=True)
class Measured:
    """One row per scene, all arrays (N,)."""

    found: list[Motion]
    asked: list[Motion]
    error_px: np.ndarray  # mean end-point error of a 512 px picture
    strength: np.ndarray  # of the camera, as a share of the true one; nan for a still camera

    @property
    def hit(self) -> np.ndarray:
        return np.array([f == a for f, a in zip(self.found, self.asked, strict=True)], float)


@dataclass(frozen=True)
class Result:
    """One arm's figures."""

    arm: Arm
    measured: Measured

    @property
    def scenes(self) -> int:
        return len(self.measured.asked)


def vocabulary(scene: Scene) -> list[Motion]:
    """Every motion that can be told apart in a scene with a subject, at the scene's strength."""
    strength = scene.kind.strength
    pairs = [
        Motion(camera, thing, strength, target)
        for camera, thing, target in product(CAMERA, OBJECT, (SUBJECT, BACKGROUND))
        if thing != "still" and (target == SUBJECT or thing in SOFT or camera == "still")
    ]
    return pairs + [Motion(camera, "still", strength) for camera in CAMERA if camera != "still"]


def resolved(scene: Scene) -> Motion:
    """What is asked of a scene, with the target that the words leave to the picture."""
    return replace(scene.kind, target=target_of(scene.kind, scene.stage))


def candidates(scene: Scene) -> tuple[list[Motion], Tensor]:
    """All motions of the vocabulary in all their ways, and their flows (K, 2, T, n, n)."""
    matte = torch.from_numpy(scene.picture.matte)
    names, flows = [], []
    for kind in vocabulary(scene):
        for free in freedoms(kind):
            motion = motion_of(truth_of(kind, scene.stage, scene.amount, free), scene.stage)
            names.append(kind)
            flows.append(visible_flow(motion, matte, FOUND_POINTS).half())
    return names, torch.stack(flows)


def likeness(flow: Tensor, others: Tensor, matte: Tensor) -> Tensor:
    """How alike a flow (2, T, n, n) is to others (K, 2, T, n, n), (K,): at most 2.

    2 <u, v> / (|u|^2 + |v|^2), for the subject and for the background by itself: a small subject
    counts as much as what is behind it.
    """
    subject = subject_points(matte, flow.shape[-1])
    total = torch.zeros(len(others))
    for region in (subject, ~subject):
        if not region.any():  # would be 0 / 0, the same for every motion
            continue
        u, v = flow[..., region].flatten(), others[..., region].float().flatten(1)
        quiet = STILL**2 * u.numel()
        total += (2 * v @ u + quiet) / (v.square().sum(1) + u.square().sum() + quiet)
    return total


def subject_points(matte: Tensor, points: int) -> Tensor:
    """Which of points x points places belong to the subject, (n, n) bool: those mostly covered.

    A thin subject covers most of none: then those whose middle it covers, as `visible_flow` shows
    it.
    """
    covered = F.adaptive_avg_pool2d(matte[None], points)[0] > SEEN
    if covered.any():
        return covered
    middle = F.interpolate(matte[None, None], (points, points), mode="bilinear")[0, 0]
    return middle > SEEN


def measure(
    motions: dict[str, list[LayeredMotion]], scenes: Sequence[Scene], processes: int = 1
) -> dict[str, Measured]:
    """Compare the motions of several arms with the truth."""
    given = [(scene, [motions[name][i] for name in motions]) for i, scene in enumerate(scenes)]
    if processes > 1:
        context = multiprocessing.get_context("fork")
        with context.Pool(processes, torch.set_num_threads, (1,)) as pool:
            rows = pool.map(_measure_one, given, chunksize=4)
    else:
        rows = [_measure_one(each) for each in given]
    asked = [resolved(scene) for scene in scenes]
    return {
        name: Measured(
            [row[k][0] for row in rows],
            asked,
            np.array([row[k][1] for row in rows]),
            strengths_of(motions[name], scenes),
        )
        for k, name in enumerate(motions)
    }


def _measure_one(given: tuple[Scene, list[LayeredMotion]]) -> list[tuple[Motion, float]]:
    """What each motion of a scene is nearest to in the vocabulary, and its error."""
    scene, motions = given
    names, others = candidates(scene)
    matte = torch.from_numpy(scene.picture.matte)
    rows = []
    for motion in motions:
        few = visible_flow(motion, matte, FOUND_POINTS)
        found = names[int(likeness(few, others, matte).argmax())]
        rows.append((found, nearest(visible_flow(motion, matte, POINTS), scene)[0]))
    return rows


def interval(values: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of a mean, by bootstrap over scenes."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def pairs_of(measured: Measured) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Per scene, (camera, object) as found in the sampled motion and as asked for."""
    return [
        ((found.camera, found.object), (asked.camera, asked.object))
        for found, asked in zip(measured.found, measured.asked, strict=True)
    ]


def summary(measured: Measured) -> dict[str, float]:
    """The figures of one arm. Shares are between 0 and 1."""
    pairs = list(zip(measured.found, measured.asked, strict=True))
    ripples = [f == a for f, a in pairs if a.object == "ripple"]
    return {
        "adherence": float(measured.hit.mean()),
        "adherence_camera": float(np.mean([f.camera == a.camera for f, a in pairs])),
        "adherence_object": float(
            np.mean([(f.object, f.target) == (a.object, a.target) for f, a in pairs])
        ),
        "adherence_ripple": float(np.mean(ripples)) if ripples else float("nan"),
        "end_point_error_px": float(measured.error_px.mean()),
        "camera_strength": float(np.nanmedian(measured.strength)),
    }


def composites(photos: PhotoSet | None, count: int, words: str = PLAIN) -> list[Scene]:
    """`count` scenes over the whole vocabulary, asked for in one kind of words."""
    scenes = unseen_scenes(photos, count, seed=SEED)
    if words == PLAIN:
        return scenes
    return [
        replace(
            scene,
            prompt=prompt(
                scene.kind,
                np.random.default_rng((SEED, n)),
                held_out=words == HELD_OUT,
                plain_share=0,
            ),
        )
        for n, scene in enumerate(scenes)
    ]


class Model:
    """The networks of a model directory, and what sampling them takes."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.config: ModelConfig = load_config(directory)
        shape = self.config.network
        self.noise = LayeredNoise(shape.frames, shape.grid)
        known = frozenset(self.config.vocabulary)
        self.tokenise = Tokeniser(shape.caption_length, shape.buckets, known)

    def network(self, name: str) -> LayeredDenoiser:
        place = device().type
        return load_network(self.directory, name, self.config, pick_dtype("auto", place), place)

    def sample(self, arm: Arm, scenes: Sequence[Scene]) -> list[LayeredMotion]:
        return sample_motions(
            arm.network,
            self.noise,
            self.tokenise,
            self.config.layer_scales,
            scenes,
            arm.sampling,
            SEED,
        )


def arms(model: Model, wanted: Sequence[str]) -> Iterator[Arm]:
    """The arms whose names begin with one of `wanted`."""
    guided = replace(model.config.sampling[TEACHER], order=1)  # DDIM, as in distillation
    fast = model.config.sampling[TEACHER]
    plain_steps = Sampling(4, guided=False, order=1, schedule="distilled")
    made = [
        ("teacher 32 x 3", TEACHER, replace(guided, steps=32), PLAIN),
        ("teacher 15 x 3, DPM-Solver++", TEACHER, fast, PLAIN),
        ("undistilled 32 x 1", TEACHER, replace(plain_steps, steps=32), PLAIN),
        ("undistilled 8 x 1", TEACHER, replace(plain_steps, steps=8), PLAIN),
        ("undistilled 4 x 1", TEACHER, plain_steps, PLAIN),
        ("student 8 x 1", STUDENT, replace(plain_steps, steps=8), PLAIN),
        ("student 4 x 1", STUDENT, plain_steps, PLAIN),
        ("teacher 15 x 3, free phrases", TEACHER, fast, FREE),
        ("teacher 15 x 3, held-out phrases", TEACHER, fast, HELD_OUT),
        ("student 4 x 1, free phrases", STUDENT, plain_steps, FREE),
        ("student 4 x 1, held-out phrases", STUDENT, plain_steps, HELD_OUT),
    ]
    for name, network, sampling, words in made:
        there = (model.directory / f"{network}.safetensors").exists()
        if there and (not wanted or any(name.startswith(each) for each in wanted)):
            yield Arm(name, model.network(network), sampling, words)


def run(
    directory: Path,
    photos: PhotoSet | None,
    *,
    count: int,
    wanted: Sequence[str] = (),
    processes: int = 1,
) -> dict[str, Result]:
    """Measure the arms of a model directory, by name. Raises CheckpointError."""
    model = Model(directory)
    chosen = list(arms(model, wanted))
    scenes = composites(photos, count)
    motions = {arm.name: model.sample(arm, composites(photos, count, arm.words)) for arm in chosen}
    measured = measure(motions, scenes, processes)
    return {arm.name: Result(arm, measured[arm.name]) for arm in chosen}


def camera_strengths(
    model: Model, arm: Arm, photos: PhotoSet | None, pictures: int = 8
) -> dict[str, float]:
    """How strong a camera is asked gently and strongly, as shares of its normal strength, over all
    camera motions; the wanted ones are 0.6 and 1.5. The slope compares the two, 1 is right."""
    some = unseen_scenes(photos, pictures, seed=SEED)
    cameras = [name for name in CAMERA if name != "still"]
    found: dict[str, np.ndarray] = {}
    for strength in STRENGTH:
        kinds = [Motion(camera, "still", strength) for camera in cameras]
        scenes = [
            replace(scene, kind=kind, prompt=plain(kind), amount=1.0)
            for scene, kind in product(some, kinds)
        ]
        found[strength] = strengths_of(model.sample(arm, scenes), scenes)
    gentle, normal, strong = (found[name] for name in ("gentle", "normal", "strong"))
    shares = float(np.median(gentle / normal)), float(np.median(strong / normal))
    return {
        "camera_strength": float(np.median(normal)),
        "camera_strength_gentle": shares[0],
        "camera_strength_strong": shares[1],
        "camera_strength_slope": float(np.log(shares[1] / shares[0]) / np.log(1.5 / 0.6)),
    }


def table(results: dict[str, Result], sheet_px: float) -> str:
    """The figures as a Markdown table, adherence with its 95 % interval."""
    lines = [
        "| network, steps x passes | passes | scenes | adherence | camera | object | ripple "
        "| end-point error, px | of today's sheet |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        s = summary(result.measured)
        low, high = interval(result.measured.hit)
        lines.append(
            f"| {name} | {result.arm.passes} | {result.scenes} "
            f"| {s['adherence']:.1%} ({low:.1%} to {high:.1%}) | {s['adherence_camera']:.1%} "
            f"| {s['adherence_object']:.1%} | {s['adherence_ripple']:.1%} "
            f"| {s['end_point_error_px']:.2f} | {s['end_point_error_px'] / sheet_px:.2f} |"
        )
    return "\n".join(lines)


def paired(results: dict[str, Result], a: str, b: str) -> str:
    """How much more often a hits than b on the same scenes, and how its error compares."""
    first, second = results[a].measured, results[b].measured
    hits = first.hit - second.hit
    low, high = interval(hits)
    ratio = first.error_px.mean() / second.error_px.mean()
    points = f"{hits.mean() * 100:+.1f} points ({low * 100:+.1f} to {high * 100:+.1f})"
    return f"{a} - {b}: {points}, error {ratio:.2f} x"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the networks of a model directory.")
    add = parser.add_argument
    add("--model", type=Path, default=SHIPPED)
    add("--photos", type=Path, help="a folder that prepare.py wrote")
    add("--count", type=int, default=256)
    add("--arms", nargs="*", default=[], help="only arms whose names begin with one of these")
    add("--threads", type=int, default=2)
    add("--processes", type=int, default=1, help="that compare motions with the vocabulary")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    photos = PhotoSet.load(args.photos, held_out=True) if args.photos else None
    results = run(args.model, photos, count=args.count, wanted=args.arms, processes=args.processes)
    print(table(results, SHEET_PX.get(args.count, float("nan"))), flush=True)
    names = list(results)
    for other in names:
        if "student 4 x 1" in names and other != "student 4 x 1":
            print("-", paired(results, "student 4 x 1", other))
    model = Model(args.model)
    for name in names:
        arm = results[name].arm
        if arm.words == PLAIN and ("4 x 1" in name or "15 x 3" in name):
            print("-", name, camera_strengths(model, arm, photos))


if __name__ == "__main__":
    main()
