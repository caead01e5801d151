"""The pipeline's front: load a model, animate a picture.

animation = Animation.load()
animation.warm_up()
for frame in animation.animate(picture, "a gentle breeze", seed=7, frames=48):
    ...
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workers.pipeline.denoiser import MotionDenoiser
from workers.pipeline.errors import NumericalError, OutOfMemory
from workers.pipeline.guidance import PASSES, GuidedDenoiser
from workers.pipeline.loader import ModelConfig, load_model
from workers.pipeline.motion import Warp, picture_in_square
from workers.pipeline.sampler import DPMSolver, log_snr_sigmas
from workers.pipeline.text import PAD, Tokeniser

SHIPPED = Path(__file__).parent.parent / "weights" / "motion-small"
MIN_FRAMES, MAX_FRAMES = 8, 96


def pick_dtype(name: str, device: str) -> torch.dtype:
    """ "auto", "bf16" or "fp32" to a dtype; auto is bf16 where it is fast."""
    if name == "auto":
        able = torch.cpu.get_capabilities()
        # A CPU without these instructions emulates bf16, slower than fp32.
        native = able.get("avx512_bf16") or able.get("amx_bf16")
        name = "bf16" if device == "cuda" or native else "fp32"
    try:
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[name]
    except KeyError:
        raise ValueError(f"dtype must be auto, bf16 or fp32, not {name!r}") from None


@contextmanager
def naming_memory():
    """Raise OutOfMemory for both ways in which torch says so."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # the CPU allocator has no class of its own
            raise
        raise OutOfMemory(str(error)) from error


class Animation:
    """One loaded model. Renders one clip at a time, in any thread."""

    passes_per_step = PASSES

    def __init__(self, network: MotionDenoiser, config: ModelConfig):
        self.network = network
        self.config = config
        self.steps = config.steps
        self.version = config.version
        self.tokenise = Tokeniser(config.vocabulary, config.network.caption_length)

    @classmethod
    def load(cls, model_dir: Path | None = None, *, dtype: str = "auto") -> "Animation":
        """Load a model directory; None is the model that ships with the package.

        Raises CheckpointError.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with naming_memory():
            network, config = load_model(model_dir or SHIPPED, pick_dtype(dtype, device), device)
        return cls(network, config)

    def warm_up(self) -> None:
        """Render one real clip, small but at the served motion shape, so that the first job does
        not pay for lazy initialisation."""
        line = np.linspace(0, 255, 64, dtype=np.uint8)
        picture = np.stack(np.broadcast_arrays(line[:, None], line[None], line[::-1, None]), -1)
        for _ in self.animate(picture, "zoom in", seed=0, frames=MIN_FRAMES, steps=2):
            pass

    def animate(
        self,
        image: np.ndarray,
        prompt: str,
        *,
        seed: int,
        frames: int,
        steps: int | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Animate a picture, (H, W, 3) uint8.

        Denoises before it returns, calling on_step(k, n) after each step k = 1..n; what that raises
        ends the work. The returned iterator then yields `frames` frames like the picture, made one
        by one; the first is the picture itself. Same arguments, same frames.

        Raises NumericalError, OutOfMemory; ValueError for arguments out of range.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"a picture is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        if not MIN_FRAMES <= frames <= MAX_FRAMES:
            raise ValueError(f"frames must be {MIN_FRAMES} to {MAX_FRAMES}, not {frames}")
        with naming_memory():
            steps = self.steps if steps is None else steps
            motion = self.denoise(image, prompt, seed, steps, on_step)
            warp = Warp(image, motion, frames)
        return self._frames(warp)

    @torch.inference_mode()
    def denoise(
        self,
        image: np.ndarray,
        prompt: str,
        seed: int,
        steps: int,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Sample the motion of a clip, (2, T, g, g) float32 in half sides (see motion.py)."""
        shape = self.config.network
        device = self.network.place.device
        tokens = self.tokenise(prompt)
        if (tokens == PAD).all():
            tokens = self.tokenise(self.config.default_prompt)
        denoise = GuidedDenoiser(
            self.network,
            picture_in_square(image, shape.picture)[None].to(device),
            tokens[None].to(device),
            self.config.picture_scale,
            self.config.text_scale,
            self.config.bands,
        )
        # Drawn on the CPU, so that a seed means the same on every device.
        draw = torch.Generator().manual_seed(seed % 2**63)
        noise = torch.randn((1, 2, shape.frames, shape.grid, shape.grid), generator=draw)
        sigmas = log_snr_sigmas(steps)

        def check(step: int, x0: Tensor) -> None:
            if not torch.isfinite(x0).all():
                raise NumericalError(f"Step {step} of {steps} gave values that are not finite.")
            if on_step is not None:
                on_step(step, steps)

        x = DPMSolver(sigmas).sample(denoise, noise.to(device) * sigmas[0].item(), check)
        return x[0] * self.config.motion_scale

    @staticmethod
    def _frames(warp: Warp) -> Iterator[np.ndarray]:
        with naming_memory():
            yield from warp
