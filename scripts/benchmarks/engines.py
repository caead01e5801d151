"""The diffusers engine against the library's own pipelines, in one run.

Every family at toy size, on this machine's device, in fp32: equal bits, stops, and where the time
of a clip goes; then groups of processes, and compiled packages. With --full-size also published
models with random weights, which needs a GPU.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.benchmarks.engines_clips import Clip
from scripts.benchmarks.engines_graphs import PACKAGED, Built, Packaged, build, measure, place
from scripts.benchmarks.engines_groups import Shared, by_frames, by_passes, by_rows, by_tokens
from scripts.benchmarks.engines_stages import STAGES
from scripts.benchmarks.engines_toys import families, peak_of_decoding
from scripts.benchmarks.figures import Figure
from scripts.stack.data import ROOT

CHAIN = "tests/e2e/test_model_families.py::test_all_families_from_submit_to_mp4_in_a_minute"
TRAPS = "tests/unit/workers/diffusers/test_silent_traps.py"


def run(*, quick: bool, full_size: bool = False) -> list[Figure]:
    """Measure; print a table of stages, a line for what is done, each figure once it is known."""
    figures = []
    for figure in _measured(quick=quick, full_size=full_size):
        print(figure, flush=True)
        figures.append(figure)
    return figures


def _measured(*, quick: bool, full_size: bool) -> Iterator[Figure]:
    yield from of_families(repeats=1 if quick else 5)
    yield Figure("decode_peak_frames", peak_of_decoding(), at_most=4)
    names = ["wan22"] if quick else [*PACKAGED]
    with tempfile.TemporaryDirectory() as path, ThreadPoolExecutor(1) as beside:
        folder = Path(path)
        for name in names:
            place(name, folder)
        # None of this has a target for its time, and a group of two leaves a core to others.
        built = [beside.submit(build, name, folder) for name in names]
        refused = None if quick else beside.submit(traps)
        yield from of_groups(sizes=(2,) if quick else (2, 4))
        if refused is not None:
            yield refused.result()
        yield from of_packages([each.result() for each in built], repeats=5 if quick else 20)
    if not quick:
        yield chain()
    if full_size:
        yield from of_full_size()


def of_families(repeats: int) -> Iterator[Figure]:
    """All families, and what holds for all of them."""
    found = []
    print(heading(), flush=True)
    for family in families(repeats=repeats):
        print(line(f"{family.name} stock", family.stock))
        print(line(f"{family.name} ours", family.ours), flush=True)
        found.append(family)
    yield Figure("families", len(found), at_least=8)
    yield Figure("max_abs_vs_stock_fp32", max(each.max_abs for each in found), at_most=0)
    yield Figure("steps_after_cancel", max(each.steps_after_cancel for each in found), at_most=0)
    same = sum(each.same_after_cancel for each in found)
    yield Figure("families_same_after_cancel", same, at_least=len(found))
    yield Figure("slowest_against_stock", max(each.ratio for each in found), at_most=1.05)


def of_groups(sizes: tuple[int, ...]) -> Iterator[Figure]:
    """How far clips of several processes are from those of one."""
    tokens = _shared("tokens", by_tokens(sizes))
    yield Figure("ulysses_max_abs", max(each.max_abs for each in tokens), at_most=0)
    passes = _shared("passes", by_passes(sizes))
    yield Figure("guidance_max_abs", max(each.max_abs for each in passes), at_most=0)
    frames = _shared("frames", by_frames(sizes))
    yield Figure("svd_sharded_rel", max(each.relative for each in frames), at_most=5e-5)
    rows = _shared("rows of the VAE", by_rows(sizes))
    yield Figure("vae_sharded_rel", max(each.relative for each in rows), at_most=5e-5)


def _shared(what: str, comparisons: Iterator[Shared]) -> list[Shared]:
    found = []
    for each in comparisons:
        print(
            f"{each.name}, {what} by {each.gpus}: off by {each.max_abs:.2g} of 1 at most,"
            f" {each.relative:.2g} of std",
            flush=True,
        )
        found.append(each)
    return found


def of_packages(built: list[Built], repeats: int) -> Iterator[Figure]:
    """The slowest start with compiled packages, and the smallest gain."""
    found: list[Packaged] = []
    for each in built:
        packaged = measure(each, repeats)
        start = packaged.start
        print(
            f"{each.name} packaged: built in {each.seconds:.1f} s; {packaged.used} graphs;"
            f" ready {start.warm_start_s:.2f} s after its weights ({start.weights_s:.2f} s):"
            f" packages {start.packages_s:.2f}, compared {start.compared_s:.2f},"
            f" a clip {start.clip_s:.2f}; a forward {1e3 * packaged.forward_s:.2f} ms,"
            f" eager {1e3 * packaged.eager_forward_s:.2f}",
            flush=True,
        )
        found.append(packaged)
    yield Figure("warm_start_s", max(each.start.warm_start_s for each in found), at_most=1)
    yield Figure("aoti_speedup", min(each.speedup for each in found), at_least=1.8)


def heading() -> str:
    names = ["clip", "total ms", "forwards", *STAGES]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def line(name: str, clip: Clip) -> str:
    """A row of the table of stages, milliseconds."""
    stages = [f"{1e3 * seconds:.0f}" for seconds in clip.stages.values()]
    return f"| {name} | {1e3 * clip.total_s:.0f} | {clip.forwards} | {' | '.join(stages)} |"


def chain() -> Figure:
    """All families from submit to MP4, two workers at a time: the test prints its seconds."""
    seconds = re.search(r"chain_s_all_families=([\d.]+)", _pytest(CHAIN, "-s"))
    value = float(seconds[1]) if seconds else None
    note = "" if seconds else "the test failed"
    return Figure("chain_s_all_families", value, at_most=60, note=note)


def traps() -> Figure:
    """Traps that are set in checkpoints, and refused in a sentence."""
    passed = re.search(r"(\d+) passed", _pytest(TRAPS, "-k", "refused_in_one_sentence"))
    return Figure("silent_traps_refused", int(passed[1]) if passed else None, at_least=13)


def _pytest(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    return done.stdout


def of_full_size() -> list[Figure]:
    """Seconds of a clip of each published model, and how they compare with the library's."""
    from scripts.benchmarks import engines_full_size
    from scripts.benchmarks.engines_models import MODELS

    rows = engines_full_size.run(dict.fromkeys(MODELS, engines_full_size.LIMIT_S))
    figures = []
    for model in MODELS.values():
        totals: dict[str, Any] = {
            row["what"]: row["total_s"]
            for row in rows
            if row.get("model") == model.name and "total_s" in row
        }
        stock = totals.pop("stock", None)
        best = min(totals.values(), default=None)
        eager = totals.get("ours")
        figures += [
            Figure(f"{model.name}_stock_s", stock),
            Figure(f"{model.name}_s", best, at_most=model.target_s),
            Figure(f"{model.name}_against_stock", _ratio(eager, stock), at_most=1.05),
        ]
    return figures


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other is not None else None
