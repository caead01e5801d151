"""Measure networks on scenes that training never drew and whose true motion is known.

    python -m workers.training.evaluate                          # everything, into eval/
    python -m workers.training.evaluate --quick                  # few scenes, minutes
    python -m workers.training.evaluate --samplings 15,2,1.5,2,0.5,log-snr    # only these

Every arm (a network and how it is sampled) gets the same scenes and the same noise, so arms are
compared in pairs. Samples are kept in --cache and made again only if an arm's weights or sampling
change.
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch

from workers.pipeline.animation import Animation
from workers.pipeline.guidance import GUIDED_PASSES
from workers.pipeline.loader import STUDENT, TEACHER, Sampling
from workers.training import plots
from workers.training.captions import Motion
from workers.training.photos import contact_sheets
from workers.training.phrases import CAMERA, OBJECT, STRENGTH
from workers.training.scenes import Scene, draw_scene, motion_field

# Training draws from seed 0 by default; another seed is another series.
SEED = 20_240_814
BATCH = 16
HALF_SIDE_PX = 256  # of a 512 px picture
STILL = ("still", "still")
PAIRS = [pair for pair in product(CAMERA, OBJECT) if pair != STILL]  # the vocabulary
# A shorter motion counts as nothing: half of the vocabulary's weakest.
NOTHING = 0.004


@dataclass(frozen=True)
class Arm:
    """A network and a way to sample it."""

    name: str
    animation: Animation
    sampling: Sampling
    held_out: bool = False  # prompts in phrases that training never used

    @property
    def passes(self) -> int:
        return self.sampling.steps * (GUIDED_PASSES if self.sampling.guided else 1)


@dataclass(frozen=True)
class Measured:
    """One row per scene, all arrays (N,). Lengths are root mean squares in half sides."""

    cosine: np.ndarray
    ratio: np.ndarray  # of the sampled motion's length to the true one's
    error_px: np.ndarray  # mean end-point error, in pixels of a 512 px picture
    roughness_px: np.ndarray  # error of the second difference over time, as error_px
    found: np.ndarray  # the nearest pair of the vocabulary, as numbers into PAIRS; -1: nothing
    asked: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        hits: np.ndarray = self.found == self.asked
        return hits.astype(float)


def test_scenes(count: int, *, held_out: bool = False) -> list[Scene]:
    """`count` scenes that cover the vocabulary in a fixed, shuffled order."""
    kinds = [Motion(*pair, strength) for strength, pair in product(STRENGTH, PAIRS)]
    order = np.random.default_rng(SEED).permutation(len(kinds))
    return [
        draw_scene(SEED, i, kind=kinds[order[i % len(kinds)]], held_out=held_out)
        for i in range(count)
    ]


def sample(arm: Arm, scenes: Sequence[Scene], cache_dir: Path | None) -> np.ndarray:
    """The motions that an arm samples, (N, 2, T, g, g) float32 in half sides."""
    file = cache_dir / f"{_fingerprint(arm, scenes)}.npy" if cache_dir else None
    if file is not None and file.exists():
        cached: np.ndarray = np.load(file)
        return cached
    animation = Animation(arm.animation.network, arm.animation.config, arm.sampling)
    draw = torch.Generator().manual_seed(SEED)
    noise = animation.noise.draw(len(scenes), draw)
    motions = []
    for first in range(0, len(scenes), BATCH):
        batch = scenes[first : first + BATCH]
        picture = torch.from_numpy(np.stack([scene.picture for scene in batch])) * 2 - 1
        tokens = torch.stack([animation.tokenise(scene.caption) for scene in batch])
        part = noise[first : first + BATCH]
        motions.append(animation.sample(picture, tokens, part, arm.sampling.steps).cpu().numpy())
    sampled = np.concatenate(motions)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, sampled)
    return sampled


def measure(sampled: np.ndarray, scenes: Sequence[Scene]) -> Measured:
    """Compare sampled motions with the truth."""
    rows = [_measure_one(u, scene) for u, scene in zip(sampled, scenes, strict=True)]
    return Measured(*(np.array(column) for column in zip(*rows, strict=True)))


def _measure_one(u: np.ndarray, scene: Scene) -> tuple[float, ...]:
    true = scene.motion
    length, truth = _length(u), _length(true)
    cosine = float((u * true).mean() / max(length * truth, 1e-12))
    error = float(np.linalg.norm(u - true, axis=0).mean() * HALF_SIDE_PX)
    rough = _length(_second_difference(u) - _second_difference(true)) * HALF_SIDE_PX
    pair = (scene.kind.camera, scene.kind.object)
    return cosine, length / truth, error, rough, _nearest(u, scene), PAIRS.index(pair)


def _nearest(u: np.ndarray, scene: Scene) -> int:
    """The pair of the vocabulary whose motion in this scene is nearest by flow cosine."""
    if _length(u) < NOTHING:
        return -1
    fields = np.stack(
        [motion_field(*pair, scene.bodies, scene.horizon, scene.amount) for pair in PAIRS]
    ).reshape(len(PAIRS), -1)
    fields /= np.linalg.norm(fields, axis=1, keepdims=True)
    return int((fields @ u.reshape(-1)).argmax())


def _length(u: np.ndarray) -> float:
    return float(np.sqrt(np.square(u).mean()))


def _second_difference(u: np.ndarray) -> np.ndarray:
    """Second differences over time of (2, T, g, g), the field at time 0 included."""
    return np.diff(u, n=2, axis=1, prepend=0)


def interval(values: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of a mean, by bootstrap over scenes."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def pairs_of(measured: Measured) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Per scene, (camera, object) as found in the sampled motion and as asked for."""
    return [
        (PAIRS[found] if found >= 0 else STILL, PAIRS[asked])
        for found, asked in zip(measured.found, measured.asked, strict=True)
    ]


def summary(measured: Measured) -> dict[str, float]:
    """The figures of one arm. Shares are between 0 and 1."""
    right = pairs_of(measured)
    return {
        "adherence": float(measured.hit.mean()),
        "adherence_camera": float(np.mean([found[0] == asked[0] for found, asked in right])),
        "adherence_object": float(np.mean([found[1] == asked[1] for found, asked in right])),
        "cosine": float(measured.cosine.mean()),
        "magnitude_ratio": float(np.median(measured.ratio)),
        "end_point_error_px": float(measured.error_px.mean()),
        "roughness_px": float(measured.roughness_px.mean()),
    }


@cache
def _weights_hash(animation: Animation) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(animation.network.state_dict().items()):
        digest.update(key.encode() + value.float().cpu().numpy().tobytes())
    return digest.hexdigest() + str(animation.network.unet.dtype)


def _fingerprint(arm: Arm, scenes: Sequence[Scene]) -> str:
    """A hash of everything that decides an arm's samples."""
    captions = [scene.caption for scene in scenes]
    inputs = [_weights_hash(arm.animation), asdict(arm.sampling), captions, SEED]
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:20]


def arms(
    student: Animation, teacher: Animation, student_fp32: Animation
) -> tuple[list[Arm], list[Arm]]:
    """The arms for every scene, and those for the scenes of the curve only."""
    plain = student.sampling
    guided = replace(teacher.sampling, order=1)  # DDIM, as in distillation
    fast = teacher.sampling
    served = f"student {plain.steps} x 1"
    main = [
        Arm("teacher 32 x 3", teacher, replace(guided, steps=32)),
        Arm("undistilled 8 x 1", teacher, replace(plain, steps=8)),
        Arm(f"undistilled {plain.steps} x 1", teacher, plain),
        Arm(served, student, plain),
        Arm(f"{served}, held-out phrases", student, plain, held_out=True),
        Arm(f"{served}, fp32", student_fp32, plain),
    ]
    curve = [
        Arm("teacher 15 x 3, DPM-Solver++", teacher, replace(fast, steps=15)),
        Arm("teacher 8 x 3, DPM-Solver++", teacher, replace(fast, steps=8)),
        Arm("teacher 32 x 1", teacher, replace(plain, steps=32)),
        *(Arm(f"student {n} x 1", student, replace(plain, steps=n)) for n in (8, 4, 2)),
        *(Arm(f"undistilled {n} x 1", teacher, replace(plain, steps=n)) for n in (4, 2)),
    ]
    # Some arms occur twice; `run` keeps the first of a name.
    return main, curve


@dataclass(frozen=True)
class Result:
    """One arm's figures, on `scenes` scenes."""

    arm: Arm
    measured: Measured

    @property
    def scenes(self) -> int:
        return len(self.measured.asked)


def run(
    model_dir: Path | None, *, count: int, curve_count: int, cache_dir: Path | None
) -> dict[str, Result]:
    """Measure every arm of a model directory, by name. Raises CheckpointError."""
    student = Animation.load(model_dir, network=STUDENT)
    teacher = Animation.load(model_dir, network=TEACHER)
    fp32 = Animation.load(model_dir, network=STUDENT, dtype="fp32")
    main_arms, curve_arms = arms(student, teacher, fp32)
    results: dict[str, Result] = {}
    for arm, n in [(a, count) for a in main_arms] + [(a, curve_count) for a in curve_arms]:
        if arm.name in results:
            continue  # measured already, on at least as many scenes
        scenes = test_scenes(n, held_out=arm.held_out)
        results[arm.name] = Result(arm, measure(sample(arm, scenes, cache_dir), scenes))
    return results


def served(results: dict[str, Result]) -> str:
    """The name of the served arm: the student with its served number of steps."""
    return next(name for name in results if f"{name}, fp32" in results)


def table(results: dict[str, Result]) -> str:
    """The figures as a Markdown table, adherence with its 95 % interval."""
    lines = [
        "| network, steps x passes | passes | scenes | adherence | camera | object | cosine "
        "| magnitude | end-point error, px | roughness, px |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        s = summary(result.measured)
        low, high = interval(result.measured.hit)
        lines.append(
            f"| {name} | {result.arm.passes} | {result.scenes} "
            f"| {s['adherence']:.1%} ({low:.1%} to {high:.1%}) | {s['adherence_camera']:.1%} "
            f"| {s['adherence_object']:.1%} | {s['cosine']:.3f} | {s['magnitude_ratio']:.2f} "
            f"| {s['end_point_error_px']:.2f} | {s['roughness_px']:.2f} |"
        )
    return "\n".join(lines)


def paired(results: dict[str, Result], a: str, b: str) -> str:
    """How much more often a hits than b on the same scenes: points, with their interval."""
    hits = results[a].measured.hit - results[b].measured.hit
    low, high = interval(hits)
    return f"{a} - {b}: {hits.mean() * 100:+.1f} points ({low * 100:+.1f} to {high * 100:+.1f})"


def compare_samplings(model_dir: Path | None, given: list[str], count: int) -> None:
    """Print the teacher's figures for several ways to sample it, as a Markdown table."""
    teacher = Animation.load(model_dir, network=TEACHER)
    scenes = test_scenes(count)
    print("| steps,order,picture,text,rescale,schedule | adherence | magnitude | error, px |")
    print("|---|---|---|---|")
    for text in given:
        steps, order, picture, words, rescale, schedule = text.split(",")
        scales = (float(picture), float(words), float(rescale))
        sampling = Sampling(int(steps), True, int(order), schedule, *scales)
        s = summary(measure(sample(Arm(text, teacher, sampling), scenes, None), scenes))
        print(
            f"| {text} | {s['adherence']:.1%} | {s['magnitude_ratio']:.2f} "
            f"| {s['end_point_error_px']:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the networks of a model directory.")
    add = parser.add_argument
    add("--model", type=Path, help="a model directory; default: the shipped one")
    add("--out", type=Path, default=Path("eval"), help="folder for table, plots, contact sheets")
    add("--cache", type=Path, default=Path("eval/cache"), help="folder of sampled motions")
    add("--quick", action="store_true", help="16 scenes and 3 photos; for a look, not a report")
    add("--samplings", nargs="*", help="STEPS,ORDER,PICTURE,TEXT,RESCALE,SCHEDULE each")
    args = parser.parse_args()
    if args.samplings:
        compare_samplings(args.model, args.samplings, 16 if args.quick else 64)
        return
    count, curve, photos = (16, 8, 3) if args.quick else (256, 64, None)
    results = run(args.model, count=count, curve_count=curve, cache_dir=args.cache)
    student = served(results)
    same_steps = student.replace("student", "undistilled")
    others = ("teacher 32 x 3", "undistilled 8 x 1", same_steps, f"{student}, fp32")
    lines = [table(results), "", *(f"- {paired(results, student, other)}" for other in others)]
    lines += ["", *contact_sheets(Animation.load(args.model), args.out, photos)]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "evaluation.md").write_text("\n".join(lines) + "\n")
    plots.curve(results, args.out / "quality-against-passes.png")
    plots.confusion(pairs_of(results[student].measured), args.out / "confusion.png")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
