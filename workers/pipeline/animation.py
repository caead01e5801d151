"""The pipeline's entry point: load a model, animate a picture.

animation = Animation.load()
animation.warm_up()
for frame in animation.animate(picture, "a gentle breeze", seed=7, frames=48):
    ...
"""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.asked import STILL, Asked
from workers.pipeline.attention import share_context
from workers.pipeline.body_strength import bodies_strengthened
from workers.pipeline.compile import build_graph
from workers.pipeline.composite import Composite
from workers.pipeline.denoiser import join
from workers.pipeline.errors import CheckpointError, NumericalError, OutOfMemory
from workers.pipeline.grid import extent
from workers.pipeline.guidance import GUIDED_PASSES, ClipDenoiser
from workers.pipeline.layer_state import channel_scales, has_subject, layered_motion, open_gate
from workers.pipeline.layered_denoiser import LayeredDenoiser, RigidPass
from workers.pipeline.layers import LayeredMotion
from workers.pipeline.loader import (
    CONFIG_FILE,
    STUDENT,
    ModelConfig,
    Sampling,
    load_config,
    load_network,
)
from workers.pipeline.matte import load_matte
from workers.pipeline.matte_file import PACKAGED
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.picture import Picture, matte_in_square, picture_in_square
from workers.pipeline.rippling import stiff_below, without_guess
from workers.pipeline.sampler import DPMSolver, sigmas_for
from workers.pipeline.soft_strength import strengthened
from workers.pipeline.subjects import Subjects, digest
from workers.pipeline.text import Tokeniser
from workers.pipeline.threads import one_thread

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent.parent / "weights" / "motion-small"
MIN_FRAMES, MAX_FRAMES = 8, 96
MIN_MOTION, MAX_MOTION = 0.0, 2.0
# Replace a prompt without words: a zoom of about 8 % bends nothing that is straight.
AMBIENT_PROMPT = "gently zoom in"
AMBIENT_SHARE = 0.7


def pick_dtype(name: str, device: str) -> torch.dtype:
    """The dtype for "auto", "bf16" or "fp32"; auto is bf16 where it is fast."""
    if name == "auto":
        able = torch.cpu.get_capabilities()
        # Without these instructions a CPU emulates bf16, slower than fp32.
        native = able.get("avx512_bf16") or able.get("amx_bf16")
        name = "bf16" if device == "cuda" or native else "fp32"
    try:
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[name]
    except KeyError:
        raise ValueError(f"dtype must be auto, bf16 or fp32, not {name!r}") from None


@contextmanager
def translate_oom() -> Iterator[None]:
    """Raise OutOfMemory for both errors that torch raises when memory runs out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # the CPU allocator has no class of its own
            raise
        raise OutOfMemory(str(error)) from error


class Animation:
    """One loaded network of a model. Renders one clip at a time, in any thread."""

    def __init__(
        self,
        network: LayeredDenoiser,
        config: ModelConfig,
        sampling: Sampling,
        graph: str = "eager",
        subjects: Subjects | None = None,
    ):
        """`graph`: how the network runs; see compile.py. The context is shared in every case.

        `subjects`: finds what stands in front of a picture's background; None: nothing does.
        """
        self.network = network
        self.subjects = subjects or Subjects(None)
        self.config = config
        self.sampling = sampling
        self.version = config.version
        shape = config.network
        self.tokenise = Tokeniser(shape.caption_length, shape.buckets, frozenset(config.vocabulary))
        self.device = network.unet.conv_in.weight.device
        self.noise = LayeredNoise(shape.frames, shape.grid, self.device)
        share_context(network.unet)
        # Frames are made by threads of their own, and OpenCV's wait by spinning.
        cv2.setNumThreads(1)
        one_pass, rigid = network.one_pass(repeat=False).eval(), RigidPass(network).eval()
        with translate_oom(), torch.inference_mode():
            self.run = build_graph(one_pass, graph, self.example())
            self.run_rigid = build_graph(rigid, graph, self.example())

    @classmethod
    def load(
        cls,
        model_dir: Path | None = None,
        *,
        network: str = STUDENT,
        dtype: str = "auto",
        graph: str = "eager",
        matte: str = PACKAGED,
    ) -> "Animation":
        """Load one network of a model directory; default: the shipped model.

        `matte`: the matte model; see load_matte. Raises CheckpointError, MatteError.
        """
        directory = model_dir or SHIPPED
        device = "cuda" if torch.cuda.is_available() else "cpu"
        config = load_config(directory)
        if (sampling := config.sampling.get(network)) is None:
            raise CheckpointError(
                f"{directory / CONFIG_FILE} has no sampling settings for {network}."
            )
        with translate_oom():
            loaded = load_network(directory, network, config, pick_dtype(dtype, device), device)
            subjects = Subjects(load_matte(matte))
        return cls(loaded, config, sampling, graph, subjects)

    def warm_up(self) -> None:
        """Render two small clips with motion of the served shape, one that bends and one that does
        not, so that the first job does not pay for lazy initialisation."""
        line = np.linspace(0, 255, 64, dtype=np.uint8)
        picture = np.stack(np.broadcast_arrays(line[:, None], line[None], line[::-1, None]), -1)
        for prompt in ("zoom in", "ripple"):
            for _ in self.animate(picture, prompt, seed=0, frames=MIN_FRAMES, steps=2):
                pass

    def animate(
        self,
        image: np.ndarray | Picture,
        prompt: str,
        *,
        seed: int,
        frames: int,
        steps: int | None = None,
        strength: float = 1.0,
        loop: bool = False,
        yuv: bool = False,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Animate a picture, (H, W, 3) uint8; a Picture may hold more pixels than its clip shows.

        Denoises before it returns, and calls on_step(k, n) after each step k = 1..n; an exception
        from it stops the work. The returned iterator makes `frames` frames of the picture's shape,
        one at a time; the first is the picture itself. `strength` multiplies all motion. With
        `loop` the motion returns to its start, so that the clip repeats without a jump. With `yuv`
        frames are YUV 4:2:0, see Composite. The same arguments give the same frames.

        Raises NumericalError, OutOfMemory; ValueError for arguments out of range.
        """
        picture = image if isinstance(image, Picture) else Picture(image)
        image = picture.pixels
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"a picture is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        if not MIN_FRAMES <= frames <= MAX_FRAMES:
            raise ValueError(f"frames must be {MIN_FRAMES} to {MAX_FRAMES}, not {frames}")
        if not MIN_MOTION <= strength <= MAX_MOTION:
            raise ValueError(f"strength must be {MIN_MOTION} to {MAX_MOTION}, not {strength}")
        with translate_oom():
            matte = self.subjects.find(image)
            motion = self.denoise(image, matte, prompt, seed, steps, on_step)
            clip = self.composite(picture, motion.scaled(strength), matte, frames, loop, yuv)
        return self._frames(clip)

    def composite(
        self,
        picture: Picture,
        motion: LayeredMotion,
        matte: np.ndarray | None,
        frames: int,
        loop: bool = False,
        yuv: bool = False,
    ) -> Composite:
        """The frames of a clip, from its motion and the matte of its subject."""
        plates = partial(self.subjects.plates, digest(picture.pixels), matte=matte)
        with one_thread():
            return Composite(
                picture,
                motion,
                frames,
                matte=matte,
                make_plates=lambda source, ground, body, yuv: plates(
                    source, ground=ground, body=body, yuv=yuv
                ),
                loop=loop,
                yuv=yuv,
            )

    def denoise(
        self,
        image: np.ndarray,
        matte: np.ndarray | None,
        prompt: str,
        seed: int,
        steps: int | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> LayeredMotion:
        """Sample the motion of a clip. matte: of the picture's subject, at any size, or None.

        A prompt in plain words gets what it asks for and nothing else (see asked_only.py). Raises
        NumericalError if values are not finite even in fp32.
        """
        shape = self.config.network
        height, width = image.shape[:2]
        covered = torch.zeros(shape.picture, shape.picture)
        if matte is not None:
            covered = matte_in_square(matte, height, width, shape.picture)
        cells = F.avg_pool2d(covered[None], shape.picture // shape.grid)[0]
        covered = covered * has_subject(cells)
        picture = torch.cat([picture_in_square(image, shape.picture), covered[None]])[None]
        steps = steps or self.sampling.steps

        def motion_of(words: str, on_step: Callable[[int, int], None] | None) -> LayeredMotion:
            noise = self.noise.draw(1, torch.Generator().manual_seed(seed % 2**63))
            tokens, asked = self.tokenise(words)[None], Asked.read(words)
            ripples = asked is not None and asked.object == "ripple"
            stiff = ripples and stiff_below(image, matte if covered.any() else None)
            given = (picture, tokens, noise, steps, on_step, asked, stiff)
            [state], [probability] = self._sample_in_fp32_if_needed(*given)
            return layered_motion(state, cells, probability, asked, extent(height, width)[1])

        asked = Asked.read(prompt)
        if self.tokenise(prompt).any():
            motion = motion_of(prompt, on_step)
            if not motion.rests or asked is None or asked.object == STILL:
                return motion
            # Nothing in this picture can move as asked; a still clip would look like a fault.
            on_step = None
        return motion_of(AMBIENT_PROMPT, on_step).scaled(AMBIENT_SHARE)

    def _sample_in_fp32_if_needed(
        self,
        picture: Tensor,
        tokens: Tensor,
        noise: Tensor,
        steps: int,
        on_step: Callable[[int, int], None] | None,
        asked: Asked | None,
        stiff: bool,
    ) -> tuple[Tensor, Tensor]:
        try:
            return self.sample(picture, tokens, noise, steps, on_step, asked, stiff)
        except NumericalError as error:
            if self.network.unet.dtype == torch.float32:
                raise
            log.warning("retrying_in_fp32 error=%s", error)
            careful = Animation(copy.deepcopy(self.network).float(), self.config, self.sampling)
            return careful.sample(picture, tokens, noise, steps, on_step, asked, stiff)

    @torch.inference_mode()
    def sample(
        self,
        picture: Tensor,
        tokens: Tensor,
        noise: Tensor,
        steps: int,
        on_step: Callable[[int, int], None] | None = None,
        asked: Asked | None = None,
        stiff: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Sample B clips: states (B, 8, T, g, g) in half sides (see layer_state.py), and how
        probable it is that background and subject are soft, (B, 2, g, g). float32, on the CPU.

        picture (B, 4, p, p): colours in [-1, 1] and the matte; tokens (B, L, PIECES); noise from
        `self.noise`; stiff: nothing of the pictures may ripple on a guess (see rippling.py). Where
        nothing of the clips can bend, soft motion stays noise. Raises NumericalError.
        """
        with one_thread():
            denoise = ClipDenoiser(
                self.network,
                picture.to(self.device),
                tokens.to(self.device),
                self.sampling,
                self.run,
            )
            probability = denoise.softness()
            if stiff:
                probability = torch.stack([without_guess(each, asked) for each in probability])
        bends = any(open_gate(each, asked).any() for each in probability)
        if not bends:
            denoise.run = self.run_rigid
        sigmas = sigmas_for(self.sampling.schedule, steps)

        def check(step: int, x0: Tensor) -> None:
            if not torch.isfinite(x0).all():
                raise NumericalError(f"Step {step} of {steps} gave values that are not finite.")
            if on_step is not None:
                on_step(step, steps)

        solver = DPMSolver(sigmas, self.sampling.order)
        scales, mattes, each = self.config.layer_scales, denoise.mattes(), [asked] * len(tokens)
        strong = strengthened(denoise, each, has_subject(mattes), probability, scales)
        strong = bodies_strengthened(strong, each, mattes, scales)
        with nullcontext() if bends else one_thread():  # only the UNet is worth several
            x = solver.sample(strong, noise.to(self.device) * sigmas[0].item(), check)
        return (x * channel_scales(scales, x)).cpu(), probability.cpu()

    def example(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Arguments for a pass, shaped as for a job's clip."""
        shape, dtype = self.config.network, self.network.unet.dtype
        passes = GUIDED_PASSES if self.sampling.guided else 1
        picture = torch.zeros(passes, 4, shape.picture, shape.picture, device=self.device)
        tokens = self.tokenise(AMBIENT_PROMPT).expand(passes, -1, -1).to(self.device)
        noise = self.noise.draw(passes, torch.Generator().manual_seed(0))
        features = self.network.static_features(picture.to(dtype))
        time = torch.full((passes,), 0.5, device=self.device)
        return (join(noise.to(dtype), features), time, *self.network.text(tokens))

    @staticmethod
    def _frames(clip: Composite) -> Iterator[np.ndarray]:
        with translate_oom():
            yield from clip
