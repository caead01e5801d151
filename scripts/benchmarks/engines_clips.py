"""One clip by the library's own pipeline, and the same clip by our engine, each stage timed.

Stock is what its users write: `from_pretrained`, the call, `output_type="np"`, and the MP4. It gets
the same noise levels, and the same encoder of MP4s, because the library's needs another package.
"""

import inspect
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from app.domain.job.profiles import Profile
from scripts.benchmarks.engines_stages import STAGES, Stopwatch, replaced, synchronise
from workers.engines.base import RenderSpec
from workers.engines.diffusers import engine as engine_module
from workers.engines.diffusers.engine import DiffusersEngine
from workers.engines.diffusers.table import DiffusersTable
from workers.media.encode import encode_mp4


@dataclass(frozen=True)
class Clip:
    """A clip that was made, and how long each stage took."""

    frames: np.ndarray  # (T, H, W, 3) uint8
    mp4: bytes
    total_s: float
    seconds: dict[str, float]
    forwards: int
    peak_gib: float  # of the GPU; 0 without one

    @property
    def forward_s(self) -> float:
        return self.seconds.get("denoising", 0.0) / max(1, self.forwards)

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each stage; what no stage has is the residual."""
        known = {name: self.seconds.get(name, 0.0) for name in STAGES[:-1]}
        return known | {"residual": self.total_s - sum(known.values())}


def spec_of(profile: Profile, **changes: Any) -> RenderSpec:
    """The profile's default order."""
    given: dict[str, Any] = {
        "prompt": "gentle waves" if "prompt" in profile.honours else "",
        "seed": 1,
        "frames": profile.default_frames,
        "fps": profile.default_fps,
        "size": profile.default_size,
        "steps": profile.steps,
    }
    return RenderSpec(**given | changes)


def by_ours(engine: DiffusersEngine, spec: RenderSpec, picture: bytes) -> Clip:
    """Picture to MP4 by the engine."""
    _begin()
    with Stopwatch(engine._pipe) as watch:
        began = time.perf_counter()
        order = engine.prepare(spec, picture)
        with replaced(engine_module, "to_pixels", lambda made: watch.timed("transfer", made)):
            rendered = engine.render(order, lambda _step: None)
        with watch.stage("mp4"):
            mp4 = engine.encode(rendered, lambda _step: None)
        total_s = time.perf_counter() - began
    return _clip(np.stack(rendered.frames), mp4, total_s, watch)


def by_stock(pipe: Any, levels: list[float] | None, given: dict[str, Any], fps: int) -> Clip:
    """Arguments of the call to MP4 by the library. `levels`: noise levels that it must use."""
    given = dict(given)
    if levels is not None:
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        if "sigmas" in inspect.signature(type(pipe).__call__).parameters:
            given["sigmas"] = levels
        else:
            force_sigmas(pipe.scheduler, levels)
    _begin()
    with Stopwatch(pipe) as watch:
        began = time.perf_counter()
        with replaced(
            pipe.video_processor,
            "postprocess_video",
            lambda processed: watch.timed("transfer", processed),
        ):
            made = pipe(**given, output_type="np").frames[0]
        with watch.stage("transfer"):
            frames = (np.asarray(made) * 255).round().astype(np.uint8)
        with watch.stage("mp4"):
            mp4 = encode_mp4(iter(frames), fps)
        total_s = time.perf_counter() - began
    return _clip(frames, mp4, total_s, watch)


def stock_pipeline(table: DiffusersTable, components: dict[str, Any], **config: Any) -> Any:
    """The library's pipeline of these parts, with its own progress bar switched off."""
    from workers.engines.diffusers.loading import pipeline_class

    pipe = pipeline_class(table.pipeline)(**components, **config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def force_sigmas(scheduler: Any, levels: list[float]) -> None:
    """For pipelines that pass none to their scheduler, or others."""
    original = scheduler.set_timesteps

    def set_timesteps(
        steps: Any = None,
        device: Any = None,
        sigmas: Any = None,
        mu: Any = None,
        timesteps: Any = None,
    ) -> None:
        original(sigmas=levels, device=device)

    scheduler.set_timesteps = set_timesteps


def _begin() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    synchronise()


def _clip(frames: np.ndarray, mp4: bytes, total_s: float, watch: Stopwatch) -> Clip:
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return Clip(
        frames, mp4, total_s, watch.seconds, watch.calls.get("denoising", 0), peak / (1 << 30)
    )
