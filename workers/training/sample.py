"""Samples the motions of scenes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.pipeline.asked import Asked
from workers.pipeline.body_strength import bodies_strengthened
from workers.pipeline.guidance import ClipDenoiser
from workers.pipeline.layer_state import channel_scales, gate, has_subject, layered_motion
from workers.pipeline.layered_denoiser import LayeredDenoiser, RigidPass
from workers.pipeline.layers import LayeredMotion
from workers.pipeline.loader import Sampling
from workers.pipeline.sampler import DPMSolver, sigmas_for
from workers.pipeline.soft_strength import strengthened
from workers.pipeline.text import Tokeniser
from workers.training.scenes import Scene

BATCH = 16
GPU_BATCH = 128


def batch_size(place: torch.device) -> int:
    return GPU_BATCH if place.type == "cuda" else BATCH


def pictures_of(scenes: Sequence[Scene]) -> Tensor:
    """What the network sees of the scenes, (B, 4, p, p)."""
    return torch.stack(
        [
            torch.cat(
                [
                    torch.from_numpy(scene.picture.colours) * 2 - 1,
                    torch.from_numpy(scene.picture.matte)[None] * scene.stage.has_subject,
                ]
            )
            for scene in scenes
        ]
    )


@torch.inference_mode()
def sample_motions(
    network: LayeredDenoiser,
    starts: Tensor,
    tokenise: Tokeniser,
    scales: tuple[float, ...],
    scenes: Sequence[Scene],
    sampling: Sampling,
) -> list[LayeredMotion]:
    """The motion of every scene, from its noise in `starts`, (N, 8, T, g, g).

    As in a clip, the UNet runs only for scenes in which something bends.
    """
    place = next(network.parameters()).device
    sigmas = sigmas_for(sampling.schedule, sampling.steps)
    passes = {True: network.one_pass(repeat=True), False: RigidPass(network)}
    found: dict[int, LayeredMotion] = {}
    batch = batch_size(place)
    for first in range(0, len(scenes), batch):
        part = scenes[first : first + batch]
        picture = pictures_of(part).to(place)
        tokens = torch.stack([tokenise(scene.prompt) for scene in part]).to(place)
        soft = ClipDenoiser(network, picture, tokens, sampling).softness()
        bending = gate(soft).flatten(1).any(1)
        for bends, run in passes.items():
            rows = (bending == bends).nonzero()[:, 0]
            if not len(rows):
                continue
            chosen = rows.tolist()
            denoise = ClipDenoiser(network, picture[rows], tokens[rows], sampling, run)
            # As a clip's: prompts in free words are not read.
            asked = [Asked.read(part[n].prompt) for n in chosen]
            mattes = denoise.mattes()
            strong = strengthened(denoise, asked, has_subject(mattes), soft[rows], scales)
            strong = bodies_strengthened(strong, asked, mattes, scales)
            noise = starts[first : first + batch].to(place)[rows]
            states = DPMSolver(sigmas, sampling.order).sample(strong, noise * sigmas[0].item())
            states = states.cpu() * channel_scales(scales, states).cpu()
            for n, state in zip(chosen, states, strict=True):
                found[first + n] = layered_motion(state, part[n].stage.matte, soft[n].cpu())
    return [found[n] for n in range(len(scenes))]
