"""Train the teacher of motion-small on procedural scenes.

    python -m workers.training.train --out runs/motion
    python -m workers.training.train --out runs/motion --resume    # continue
    python -m workers.training.train --out runs/more --init workers/weights/motion-small
    python -m workers.training.train --out runs/toy --toy --steps 20    # CPU, seconds

Writes <out>/state.pt (everything needed to continue) and <out>/model/ (the averaged weights, ready
for the pipeline) every --save-minutes, on SIGTERM and SIGINT, and at the end. Scenes, noise and
dropped conditions depend only on (seed, step), so a resumed run takes the same steps as an
uninterrupted one.
"""

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from workers.pipeline.animation import pick_dtype
from workers.pipeline.denoiser import DenoiserConfig, MotionDenoiser
from workers.pipeline.loader import TEACHER, ModelConfig, Sampling, load_network
from workers.pipeline.noise import MotionNoise
from workers.pipeline.text import PAD, Tokeniser
from workers.training import captions, scenes
from workers.training.run import State, add_arguments, device, optimise

VERSION = "0.3.0"
# The standard deviation of all motion; dividing by it gives unit variance.
MOTION_SCALE = 0.067
# Log-normal noise ratios (Karras et al. 2022, arXiv:2206.00364, Table 1). High noise decides which
# motion it becomes, and that is what the network has to learn.
NOISE_MEAN, NOISE_STD = math.log(4.0), 1.6
# Errors are whitened by a quarter: a swaying flower is a small, fine part of a clip whose camera
# pans, and it matters as much.
WHITENING = 0.25
# Scenes are weighted by 1 / (mean square of the motion + SMALL_MOTION). The part that is not a pan,
# zoom or rotation of the whole counts once more by itself, weighted likewise: without that, objects
# learn to move half as far as they should.
SMALL_MOTION = 0.1
SMALL_OBJECT_MOTION = 0.02
OBJECT_SHARE = 1.0
# Captions of real clips are often wrong; this share of ours describes another motion. A network
# that learnt to doubt its prompt ignores it at times, unless it is guided.
MISLABELLED = 0.06
# Share of words whose own vector is hidden, so that their runs of letters learn the meaning.
UNKNOWN_WORDS = 0.08
# The three passes of guidance need the network without text, and without text and picture.
DROP_BOTH, DROP_TEXT = 0.06, 0.10

# Chosen with evaluate.py; the tables are in the model card.
SAMPLING = {
    "teacher": Sampling(15, True, 2, picture_scale=1.5, text_scale=1.5, rescale=0.5),
    "student": Sampling(steps=4, guided=False, order=1, schedule="distilled"),
}

Batch = tuple[Tensor, Tensor, Tensor]


def network_config(toy: bool) -> DenoiserConfig:
    """The full network, or one that trains for a test in seconds."""
    if not toy:
        return DenoiserConfig(frames=scenes.FRAMES, grid=scenes.GRID)
    return DenoiserConfig(
        channels=(8, 16),
        head_width=8,
        frames=scenes.FRAMES,
        grid=scenes.GRID,
        features=8,
        buckets=512,
        text_width=16,
    )


def model_config(toy: bool) -> ModelConfig:
    """Everything about the model except its weights."""
    return ModelConfig(
        name="motion-small",
        version=VERSION,
        network=network_config(toy),
        vocabulary=captions.vocabulary(),
        motion_scale=MOTION_SCALE,
        sampling=SAMPLING,
    )


def make_batch(
    seed: int, step: int, size: int, tokenise: Tokeniser, *, mislabelled: float = MISLABELLED
) -> Batch:
    """The scenes of one step: motion (B, 2, T, h, w), picture (B, 3, p, p), tokens (B, L, P)."""
    batch = [scenes.draw_scene(seed, step * size + i) for i in range(size)]
    rng = np.random.default_rng((seed, step, 2))
    texts = [
        captions.caption(scenes.draw_motion(rng), rng)
        if rng.random() < mislabelled
        else scene.caption
        for scene in batch
    ]
    motion = torch.from_numpy(np.stack([scene.motion for scene in batch])) / MOTION_SCALE
    picture = torch.from_numpy(np.stack([scene.picture for scene in batch])) * 2 - 1
    tokens = torch.stack([tokenise(text) for text in texts])
    hidden = torch.from_numpy(rng.random(tokens.shape[:2])) < UNKNOWN_WORDS
    other = torch.from_numpy(rng.integers(1, tokenise.buckets + 1, tokens.shape[:2]))
    tokens[..., 0] = torch.where(hidden & (tokens[..., 0] != PAD), other, tokens[..., 0])
    return motion, picture, tokens


def diffusion_loss(
    network: MotionDenoiser, noise: MotionNoise, batch: Batch, draw: torch.Generator
) -> Tensor:
    """Squared error of x0 at random noise levels, partly whitened, weighted by scene."""
    place = next(network.parameters()).device
    motion, picture, tokens = (x.to(place) for x in batch)
    b = len(motion)
    sigma = (torch.randn(b, generator=draw) * NOISE_STD + NOISE_MEAN).exp()
    angle = torch.atan(sigma).to(place)
    drop = torch.rand(b, generator=draw).to(place)
    picture = torch.where((drop < DROP_BOTH)[:, None, None, None], 0.0, picture)
    tokens = torch.where((drop < DROP_BOTH + DROP_TEXT)[:, None, None], PAD, tokens)
    clip = (slice(None), None, None, None, None)
    cos, sin = angle.cos()[clip], angle.sin()[clip]
    epsilon = noise.draw(b, draw)
    noisy, target = cos * motion + sin * epsilon, cos * epsilon - sin * motion
    with fast(place):
        v = network(noisy, angle * (2 / math.pi), picture, tokens)
    # sin * error of v is the error of x0: with little noise left, little is left to learn.
    return motion_error(noise, sin * (v.float() - target), motion).mean()


def motion_error(noise: MotionNoise, error: Tensor, motion: Tensor) -> Tensor:
    """The error of each motion, (B,): of the whole, plus of the part without the camera's motion.

    error and motion (B, 2, T, h, w).
    """
    clip = (1, 2, 3, 4)
    whole = noise.whiten(error, WHITENING).square().mean(clip)
    whole = whole / (motion.square().mean(clip) + SMALL_MOTION)
    objects = without_camera(error).square().mean(clip)
    objects = objects / (without_camera(motion).square().mean(clip) + SMALL_OBJECT_MOTION)
    return whole + OBJECT_SHARE * objects


def without_camera(x: Tensor) -> Tensor:
    """Remove what is constant or linear over each field: pans, zooms, rotations.

    x (B, 2, T, h, w), h = w.
    """
    line = torch.linspace(-1, 1, x.shape[-1], device=x.device)
    flat = torch.ones_like(line)
    modes = torch.stack([torch.outer(flat, flat), torch.outer(flat, line), torch.outer(line, flat)])
    modes = modes / modes.flatten(1).norm(dim=1)[:, None, None]  # orthonormal: the line is centred
    shares = torch.einsum("bctyx,kyx->bctk", x, modes)
    return x - torch.einsum("bctk,kyx->bctyx", shares, modes)


@contextmanager
def fast(place: torch.device) -> Iterator[None]:
    """bf16 if the hardware supports it, and attention kernels with a quick backward pass.

    For temporal attention's sequences of 8 tokens, the fused CPU kernel's backward pass takes as
    long as everything else together; the plain one does not.
    """
    # Emulated bf16 is ten times slower than fp32.
    able = pick_dtype("auto", place.type) == torch.bfloat16
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(place.type, torch.bfloat16, enabled=able):
        yield


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the teacher of motion-small.")
    add_arguments(parser, steps=3000, batch=16, lr=8e-4)
    parser.add_argument("--toy", action="store_true", help="a tiny network, to try the code")
    parser.add_argument("--init", type=Path, help="start from the teacher of a model directory")
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> State:
    """Train. Returns the last saved state."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = model_config(args.toy)
    if args.init is None:
        network = MotionDenoiser(config.network).to(device())
    else:
        network = load_network(args.init, TEACHER, config, torch.float32, device().type)
        network.train().requires_grad_(True)
    noise = MotionNoise(config.network.frames, config.network.grid, device())
    tokenise = Tokeniser(config.network.caption_length, config.network.buckets)

    def loss_of(step: int, draw: torch.Generator) -> Tensor:
        batch = make_batch(args.seed, step, args.batch, tokenise)
        return diffusion_loss(network, noise, batch, draw)

    return optimise(args, network, config, TEACHER, loss_of)


if __name__ == "__main__":
    train(parse_args())
