"""Published models at full size on a GPU, with random weights: stock pipeline against our engine.

    python -m scripts.benchmarks.engines_full_size wan:150 ltx2 svd ltx

Times do not depend on what the weights are, so nobody needs to download any. Prints a line of JSON
for each thing as soon as it is known; a run that is cut off has told what it had.
"""

import argparse
import gc
import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from typing import Any

import torch
from PIL import Image

from app.config import profiles_file
from app.domain.errors import Canceled
from app.domain.job.profiles import Profile
from scripts.benchmarks.engines_clips import Clip, by_ours, by_stock, spec_of, stock_pipeline
from scripts.benchmarks.engines_models import BF16, MODELS, Model, Variant
from scripts.benchmarks.engines_stages import STAGES, synchronise
from workers.engines.base import RenderSpec
from workers.engines.diffusers import graphs
from workers.engines.diffusers.attention import set_attention
from workers.engines.diffusers.engine import DiffusersEngine
from workers.engines.diffusers.loading import denoisers
from workers.engines.diffusers.schedule import scheduler_for
from workers.engines.diffusers.table import DiffusersTable, read_table

LIMIT_S = 900.0  # for one model


class OutOfTime(BaseException):
    """The limit of one model has passed. No error of a library, which something might catch."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in this block when the time is over."""

    def over(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def say(**values: Any) -> dict[str, Any]:
    """Print a result as a line of JSON, at once; returns it."""
    rounded = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in values.items()
    }
    print(json.dumps(rounded), flush=True)
    return rounded


def ceiling_tflops(device: torch.device, side: int = 8192) -> float:
    """A large matrix product in bf16: what this device can do at most."""
    one, other = (torch.randn(side, side, device=device, dtype=BF16) for _ in range(2))
    for _ in range(3):
        one @ other
    synchronise()
    began, count = time.perf_counter(), 20
    for _ in range(count):
        one @ other
    synchronise()
    return 2 * side**3 * count / (time.perf_counter() - began) / 1e12


def picture_of(width: int, height: int) -> bytes:
    """A picture with the shape of the clip."""
    warm_up = files("workers.engines.diffusers") / "warm_up.jpg"
    with Image.open(io.BytesIO(warm_up.read_bytes())) as opened:
        out = io.BytesIO()
        opened.convert("RGB").resize((width, height)).save(out, "PNG")
    return out.getvalue()


def measure(model: Model, device: torch.device, ceiling: float | None) -> Iterator[dict[str, Any]]:
    """Yield what is found, as it is found."""
    profile = profiles_file.read(model.template)
    table = read_table(profile)
    began = time.perf_counter()
    with torch.no_grad():
        parts = model.parts(device)
    synchronise()
    yield say(model=model.name, what="weights drawn", s=time.perf_counter() - began, **_memory())
    stock = stock_pipeline(table, parts, **model.config)
    engine = _engine(profile, table, parts, model)
    spec = spec_of(profile, frames=model.frames, size=max(model.size))
    picture = picture_of(*model.size)

    def arguments() -> dict[str, Any]:  # the profile's, for both; a generator serves one clip
        return engine._arguments(engine.prepare(spec, picture))

    tflops = _tflops_per_forward(stock, table, arguments())
    yield say(model=model.name, what="two steps, warm", tflops_per_forward=tflops)

    def told(what: str, clip: Clip) -> dict[str, Any]:
        share = tflops / clip.forward_s / ceiling if ceiling else None
        return say(
            model=model.name,
            what=what,
            total_s=clip.total_s,
            forwards=clip.forwards,
            forward_s=clip.forward_s,
            **{f"{name}_s": clip.stages[name] for name in STAGES},
            ceiling_share=share,
            peak_gib=clip.peak_gib,
            finite=bool(clip.frames.std() > 0),
        )

    reference = by_stock(stock, table.sigmas, arguments(), spec.fps)
    yield told("stock", reference)
    clip = by_ours(engine, spec, picture)
    same = bool((clip.frames == reference.frames).all())
    yield told("ours", clip) | {"equal_to_stock": same}
    say(model=model.name, what="ours against stock", equal=same)
    yield _cancel(model, engine, spec, picture)
    for variant in model.variants:
        try:
            yield _variant(told, model, variant, engine, spec, picture)
        except Exception as error:  # the next variant may work
            yield _failed(model.name, error, variant.name)


def _variant(
    told: Callable[[str, Clip], dict[str, Any]],
    model: Model,
    variant: Variant,
    engine: DiffusersEngine,
    spec: RenderSpec,
    picture: bytes,
) -> dict[str, Any]:
    """Change the engine's parts for good, and render twice: the first time, kernels are made."""
    pipe, table = engine._pipe, engine._table.model_copy(update=variant.table)
    set_attention(pipe, table)
    graphs.apply(pipe, DiffusersTable.model_construct(graphs=variant.table.get("graphs", {})))
    for name, dtype in variant.cast.items():
        getattr(pipe, name).to(dtype)
    if variant.steps is not None:
        spec = replace(spec, steps=variant.steps)
    began = time.perf_counter()
    warm = stock_pipeline(table, pipe.components, **model.config)
    _two_steps(warm, table, engine._arguments(engine.prepare(spec, picture)))
    say(model=model.name, what=f"warm-up of {variant.name}", s=time.perf_counter() - began)
    return told(f"ours, {variant.name}", by_ours(engine, spec, picture))


def _engine(
    profile: Profile, table: DiffusersTable, parts: dict[str, Any], model: Model
) -> DiffusersEngine:
    """The engine as `load` makes it, of parts that are there."""
    pipe = stock_pipeline(table, parts, **model.config)
    pipe.scheduler = scheduler_for(table, parts["scheduler"])
    return DiffusersEngine(profile, table, pipe, "random")


def _tflops_per_forward(stock: Any, table: DiffusersTable, arguments: dict[str, Any]) -> float:
    """Counted in the first forward of a clip of two steps, which also warms everything up."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    state = {"first": True}

    def begin(*_: Any) -> None:
        if state["first"]:
            counter.__enter__()

    def end(*_: Any) -> None:
        if state["first"]:
            counter.__exit__(None, None, None)
            state["first"] = False

    hooks = []
    for network in denoisers(stock):
        hooks += [network.register_forward_pre_hook(begin), network.register_forward_hook(end)]
    _two_steps(stock, table, arguments)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() / 1e12


def _two_steps(stock: Any, table: DiffusersTable, arguments: dict[str, Any]) -> None:
    """The first and the last: both of two experts."""
    levels = None if table.sigmas is None else [table.sigmas[0], table.sigmas[-1]]
    by_stock(stock, levels, dict(arguments, num_inference_steps=2), 8)


def _cancel(
    model: Model, engine: DiffusersEngine, spec: RenderSpec, picture: bytes
) -> dict[str, Any]:
    """How long a stop takes that is asked for in the second step."""
    order = engine.prepare(spec, picture)
    steps: list[int] = []
    asked = 0.0

    def stop(step: int | None) -> None:
        nonlocal asked
        if step is not None:
            steps.append(step)
        if len(steps) == 2 or (steps and step is None):
            asked = time.perf_counter()
            raise Canceled("stop")

    try:
        engine.render(order, stop)
    except Canceled:
        synchronise()
    waited = time.perf_counter() - asked
    return say(model=model.name, what="cancel", cancel_s=waited, steps_done=len(steps))


def _failed(model: str, error: Exception, variant: str = "") -> dict[str, Any]:
    text = f"{type(error).__name__}: {error}"[:400]
    return say(model=model, what=f"failed {variant}".strip(), error=text)


def _memory() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    return {"allocated_gib": torch.cuda.memory_allocated() / (1 << 30)}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def run(limits: dict[str, float]) -> list[dict[str, Any]]:
    """Measure models one after another, each within its seconds.

    What fails or takes too long says so and is left.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ceiling = ceiling_tflops(device, 8192 if device.type == "cuda" else 512)
    found = [say(device=_device_name(device), torch=torch.__version__, ceiling_tflops=ceiling)]
    for name, limit_s in limits.items():
        began = time.perf_counter()
        try:
            with limited(limit_s):
                for result in measure(MODELS[name], device, ceiling):
                    found.append(result)
        except OutOfTime:
            found.append(say(model=name, what="out of time", s=time.perf_counter() - began))
        except Exception as error:  # the next model has nothing to do with it
            found.append(_failed(name, error))
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL[:SECONDS]", default=[*MODELS])
    limits = {}
    for each in parser.parse_args().models:
        name, _, seconds = each.partition(":")
        if name not in MODELS:
            parser.error(f"no such model: {name}; known: {', '.join(MODELS)}")
        limits[name] = float(seconds or LIMIT_S)
    run(limits)


if __name__ == "__main__":
    main()
