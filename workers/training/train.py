"""Train the teacher of motion-small on scenes in layers.

    python -m workers.training.prepare --out photos
    python -m workers.training.train --out runs/motion --photos photos
    python -m workers.training.train --out runs/motion --photos photos --resume
    python -m workers.training.train --out runs/toy --toy --steps 20    # CPU, seconds

Writes <out>/state.pt (everything needed to continue), <out>/model/ (the averaged weights, ready for
the pipeline) and <out>/probes.csv (figures of a few scenes that training never draws). Scenes,
noise and dropped conditions depend only on (seed, step) and the photos, so a resumed run takes the
same steps as an uninterrupted one. Without --photos all scenes are drawn.
"""

import argparse
import math
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.affine import to_fields
from workers.pipeline.denoiser import DenoiserConfig, OnePass
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.loader import TEACHER, ModelConfig, Sampling, load_network
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.text import PAD, Tokeniser
from workers.training.motions import FRAMES, GRID
from workers.training.photos import PhotoSet
from workers.training.probe import Probe
from workers.training.prompts import vocabulary
from workers.training.run import State, add_arguments, device, fast, optimise
from workers.training.scenes import Batch, make_batch

VERSION = "0.4.2"
# Log-normal noise ratios (Karras et al. 2022, arXiv:2206.00364, Table 1). High noise decides which
# motion it becomes, and that is what the network has to learn.
NOISE_MEAN, NOISE_STD = math.log(4.0), 1.6
# Errors of what is soft are whitened by a quarter: a swaying flower is a small, fine part of it.
WHITENING = 0.25
# The three passes of guidance need the network without text, and without text and picture.
DROP_BOTH, DROP_TEXT = 0.06, 0.10
# Standard deviations of all motion of camera, body, and what is soft in background and subject.
LAYER_SCALES = (0.06, 0.07, 0.014, 0.01)
# An error is weighted by 1 / (mean square of the motion that the caption describes + this). What
# the caption describes and not what really happens: weights that depend on the truth would favour
# its weakest versions, and the prediction would shrink (that cost 0.2.0 and 0.3.0 a fifth of their
# strength).
SMALL_PATH, SMALL_SOFT = 0.1, 0.1
SOFTNESS_SHARE = 0.3  # of the loss of where anything is soft

SAMPLING = {
    "teacher": Sampling(15, True, 2, picture_scale=1.0, text_scale=2.0, rescale=0.3),
    "student": Sampling(steps=4, guided=False, order=1, schedule="distilled"),
}


def network_config(toy: bool) -> DenoiserConfig:
    """The full network, or one that trains for a test in seconds."""
    shape = DenoiserConfig(frames=FRAMES, grid=GRID)
    if not toy:
        return shape
    return replace(
        shape,
        channels=(8, 16),
        head_width=8,
        features=8,
        buckets=512,
        text_width=16,
        path_width=32,
        path_blocks=2,
    )


def model_config(toy: bool) -> ModelConfig:
    """Everything about the model except its weights."""
    return ModelConfig(
        name="motion-small",
        version=VERSION,
        network=network_config(toy),
        vocabulary=vocabulary(),
        sampling=SAMPLING,
        layer_scales=LAYER_SCALES,
    )


def state_of(batch: Batch, scales: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """The affine channels of all motions (P M, 4, T, g, g) and the soft ones of each picture's
    first (P, 4, T, g, g), in units of the network."""
    paths = torch.stack([batch.camera / scales[0], batch.body / scales[1]], 1)
    soft = torch.stack([batch.soft[:, 0] / scales[2], batch.soft[:, 1] / scales[3]], 1)
    return to_fields(paths, batch.soft.shape[-1]).flatten(1, 2), soft.flatten(1, 2)


def layered_loss(
    network: LayeredDenoiser,
    noise: LayeredNoise,
    batch: Batch,
    draw: torch.Generator,
    scales: tuple[float, ...] = LAYER_SCALES,
    *,
    with_soft: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared errors of x0 at random noise levels, and the parts they are the sum of.

    Without the soft part the UNet, which costs most, is neither run nor trained.
    """
    place = next(network.parameters()).device
    batch = batch.to(place)
    affine, soft = state_of(batch, scales)
    rows, pictures = len(affine), len(soft)
    motions = rows // pictures
    drawn = torch.randn(rows, generator=draw, device=draw.device)
    angle = torch.atan((drawn * NOISE_STD + NOISE_MEAN).exp()).to(place)
    time = angle * (2 / math.pi)
    # Pictures are dropped with the texts of all their motions.
    blind = torch.rand(pictures, generator=draw, device=draw.device).to(place) < DROP_BOTH
    deaf = torch.rand(rows, generator=draw, device=draw.device).to(place) < DROP_TEXT
    deaf = deaf | blind.repeat_interleave(motions)
    picture = torch.where(blind[:, None, None, None], 0.0, batch.picture)
    tokens = torch.where(deaf[:, None, None], PAD, batch.tokens)
    there = batch.has_subject.repeat_interleave(motions)
    energy = torch.stack([batch.energies[:, i] / s**2 for i, s in enumerate(scales)], 1)
    energy = torch.where(deaf[:, None], 1.0, energy)

    clip = (slice(None), None, None, None, None)
    cos, sin = angle.cos()[clip], angle.sin()[clip]
    epsilon = noise.affine(rows, draw)
    noisy, target = cos * affine + sin * epsilon, cos * epsilon - sin * affine
    with fast(place):
        static = network.static_features(picture)
        each = static.repeat_interleave(motions, 0)
        context, pooled = network.text(tokens)
        v = network.paths(noisy, time, each, context, pooled).float()
        logits = network.softness(each, pooled).float()
    # sin * error of v is the error of x0: with little noise left, little is left to learn.
    camera, body = path_errors(sin * (v - target), energy[:, :2], there)
    where = F.binary_cross_entropy_with_logits(logits, batch.masks)
    parts = {"camera": camera, "body": body, "where": where}
    whole = camera + body + SOFTNESS_SHARE * where
    if with_soft:
        first = torch.arange(pictures, device=place) * motions
        epsilon = noise.residual(pictures, draw)
        soft_noisy = cos[first] * soft + sin[first] * epsilon
        soft_target = cos[first] * epsilon - sin[first] * soft
        estimate = (cos * noisy - sin * v.detach())[first]
        known = static[:, :, None].expand(-1, -1, noisy.shape[2], -1, -1)
        with fast(place):
            sample = torch.cat([estimate, soft_noisy, known.float()], 1)
            soft_v = OnePass.of(
                network.unet, sample, time[first], context[first], pooled[first]
            ).float()
        parts["soft"] = soft_error(noise, sin[first] * (soft_v - soft_target), energy[first, 2:])
        whole = whole + parts["soft"]
    return whole, {name: part.detach() for name, part in parts.items()}


def by_layer(x: Tensor) -> Tensor:
    """(B, 4, ...) -> (B, 2, 2, ...): two layers with two channels each."""
    return x.reshape(len(x), 2, 2, *x.shape[2:])


def path_errors(error: Tensor, energy: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean square errors of cameras and of bodies.

    error (B, 4, T, g, g); energy (B, 2) of the motion that was asked for; there (B,) tells which
    pictures have a subject: elsewhere nothing depends on the body.
    """
    square = by_layer(error).square().mean((2, 3, 4, 5)) / (energy + SMALL_PATH)
    return square[:, 0].mean(), (square[:, 1] * there).sum() / there.sum().clamp(min=1)


def soft_error(noise: LayeredNoise, error: Tensor, energy: Tensor) -> Tensor:
    """The same of what is soft in background and subject, together; partly whitened.

    error (B, 4, T, g, g); energy (B, 2)
    """
    layers = by_layer(error).flatten(0, 1)
    square = noise.soft.whiten(layers, WHITENING).square().mean((1, 2, 3, 4))
    weighted: Tensor = square.reshape(len(error), 2) / (energy + SMALL_SOFT)
    return weighted.sum(1).mean()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the teacher of motion-small.")
    add_arguments(parser, steps=6000, batch=16, lr=6e-4)
    add = parser.add_argument
    add("--motions", type=int, default=4, help="motions of each picture; --batch counts pictures")
    add("--soft-every", type=int, default=2, help="steps of which one trains what is soft")
    add("--photos", type=Path, help="a folder that prepare.py wrote")
    add("--toy", action="store_true", help="a tiny network, to try the code")
    add("--init", type=Path, help="start from the teacher of a model directory")
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> State:
    """Train. Returns the last saved state. Raises CheckpointError, OSError for bad inputs."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = model_config(args.toy)
    network = LayeredDenoiser(config.network)
    if args.init is not None:
        given = load_network(args.init, TEACHER, config, torch.float32, "cpu")
        network.load_state_dict(given.state_dict())
    network.to(device())
    noise = LayeredNoise(config.network.frames, config.network.grid, device())
    tokenise = Tokeniser(
        config.network.caption_length, config.network.buckets, frozenset(config.vocabulary)
    )
    training, unseen = None, None
    if args.photos is not None:
        training, unseen = (PhotoSet.load(args.photos, held_out=side) for side in (False, True))
    probe = Probe(args.out, config, unseen)

    def make(step: int) -> Batch:
        return make_batch(args.seed, step, args.batch, args.motions, tokenise, training)

    def with_soft(step: int) -> bool:
        return bool(step % args.soft_every == 0)

    def loss_of(
        batch: Batch, kind: Hashable, draw: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return layered_loss(network, noise, batch, draw, with_soft=bool(kind))

    return optimise(args, network, config, TEACHER, loss_of, make, with_soft, probe)


if __name__ == "__main__":
    train(parse_args())
