"""Measure networks on composites of photos that training never saw, whose true motion is known.

    python -m workers.training.evaluate --model runs/motion/model --photos photos
    python -m workers.training.evaluate ... --arms teacher --count 64    # a look
    python -m workers.training.evaluate ... --ledger eval/ledger.jsonl   # goes on where it stopped

Every arm (a network, and how it is sampled and asked) gets the same scenes and the same noise, so
arms are compared in pairs.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from workers.pipeline.animation import SHIPPED
from workers.pipeline.layers import LayeredMotion
from workers.training.arms import MOST_SCENES, PLAIN, SEED, Arm, Model, arms, reworded
from workers.training.captions import Motion
from workers.training.ledger import Ledger, Sample
from workers.training.measuring import judge_all, resolved
from workers.training.photos import PhotoSet
from workers.training.phrases import CAMERA, STRENGTH
from workers.training.probe import strengths_of, unseen_scenes
from workers.training.prompts import plain
from workers.training.report import SHEET_PX, Measured, Result, paired, table
from workers.training.run import device
from workers.training.sample import batch_size
from workers.training.scenes import Scene


def run(
    directory: Path,
    photos: PhotoSet | None,
    *,
    count: int,
    wanted: Sequence[str] = (),
    processes: int = 1,
    kept: Path | None = None,
) -> dict[str, Result]:
    """Measure the arms of a model directory, by name.

    kept: where verdicts are kept as they are made, and read from. Raises CheckpointError.
    """
    if count > MOST_SCENES:
        raise ValueError(f"an evaluation has at most {MOST_SCENES} scenes, not {count}")
    model = Model(directory)
    chosen = list(arms(model, wanted))
    ledger = Ledger(model.version, kept)
    scenes = unseen_scenes(photos, count, seed=SEED)
    asked = {arm.words: reworded(scenes, arm.words) for arm in chosen}
    step = batch_size(device())
    for first in range(0, count, step):
        fill(ledger, model, chosen, asked, range(first, min(first + step, count)), processes)
    return {arm.name: Result(arm, measured(ledger, arm, asked[arm.words])) for arm in chosen}


def fill(
    ledger: Ledger,
    model: Model,
    chosen: Sequence[Arm],
    asked: Mapping[str, Sequence[Scene]],
    numbers: Sequence[int],
    processes: int = 1,
) -> None:
    """Sample and measure those of the scenes that the ledger does not have, for every arm.

    asked: the scenes by kind of words; numbers: of the scenes.
    """
    sampled: dict[int, dict[Sample, LayeredMotion]] = {n: {} for n in numbers}
    for arm in chosen:
        scenes = asked[arm.words]
        missing = {n: Sample(arm.sampler, n, scenes[n].prompt) for n in numbers}
        missing = {
            n: sample
            for n, sample in missing.items()
            if sample not in ledger.verdicts and sample not in sampled[n]
        }
        motions = model.sample(arm, [scenes[n] for n in missing], list(missing))
        for (n, sample), motion in zip(missing.items(), motions, strict=True):
            sampled[n][sample] = motion
    # What is asked does not depend on the words, so any arm's scene will do.
    some = asked[chosen[0].words] if chosen else []
    given = [(some[n], list(found.values())) for n, found in sampled.items() if found]
    verdicts = judge_all(given, processes)
    samples = [list(found) for found in sampled.values() if found]
    ledger.add(
        pair
        for keys, values in zip(samples, verdicts, strict=True)
        for pair in zip(keys, values, strict=True)
    )


def measured(ledger: Ledger, arm: Arm, scenes: Sequence[Scene]) -> Measured:
    """What the ledger has of an arm."""
    rows = [ledger.verdicts[Sample(arm.sampler, n, s.prompt)] for n, s in enumerate(scenes)]
    return Measured(
        [row.found for row in rows],
        [resolved(scene) for scene in scenes],
        np.array([row.error_px for row in rows]),
        np.array([row.strength for row in rows]),
    )


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the networks of a model directory.")
    add = parser.add_argument
    add("--model", type=Path, default=SHIPPED)
    add("--photos", type=Path, help="a folder that prepare.py wrote")
    add("--count", type=int, default=256, help=f"scenes, at most {MOST_SCENES}")
    add("--arms", nargs="*", default=[], help="only arms whose names begin with one of these")
    add("--ledger", type=Path, help="a file that keeps what is measured")
    add("--threads", type=int, default=2)
    add("--processes", type=int, default=1, help="that compare motions with the vocabulary")
    args = parser.parse_args()
    if not 1 <= args.count <= MOST_SCENES:
        parser.error(f"--count must be 1 to {MOST_SCENES}")
    torch.set_num_threads(args.threads)
    photos = PhotoSet.load(args.photos, held_out=True) if args.photos else None
    results = run(
        args.model,
        photos,
        count=args.count,
        wanted=args.arms,
        processes=args.processes,
        kept=args.ledger,
    )
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
