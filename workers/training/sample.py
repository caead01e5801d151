"""Samples the motions of scenes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.pipeline.asked import Asked
from workers.pipeline.guidance import ClipDenoiser, RunPass
from workers.pipeline.layer_state import channel_scales, layered_motion
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.layers import LayeredMotion
from workers.pipeline.loader import Sampling
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.sampler import DPMSolver, sigmas_for
from workers.pipeline.soft_strength import strengthened
from workers.pipeline.text import Tokeniser
from workers.training.scenes import Scene

BATCH = 16
GPU_BATCH = 128


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
    noise: LayeredNoise,
    tokenise: Tokeniser,
    scales: tuple[float, ...],
    scenes: Sequence[Scene],
    sampling: Sampling,
    seed: int,
    run: RunPass | None = None,
) -> list[LayeredMotion]:
    """The motion of every scene. The noise of a scene depends on `seed` and its position alone."""
    place = next(network.parameters()).device
    drawn = noise.draw(len(scenes), torch.Generator().manual_seed(seed))
    sigmas = sigmas_for(sampling.schedule, sampling.steps)
    found = []
    batch = GPU_BATCH if place.type == "cuda" else BATCH
    for first in range(0, len(scenes), batch):
        part = scenes[first : first + batch]
        picture = pictures_of(part).to(place)
        tokens = torch.stack([tokenise(scene.prompt) for scene in part]).to(place)
        denoise = ClipDenoiser(network, picture, tokens, sampling, run)
        start = drawn[first : first + batch] * sigmas[0].item()
        soft = denoise.softness()
        # As a clip's: prompts in free words are not read.
        asked = [Asked.read(scene.prompt) for scene in part]
        strong = strengthened(denoise, asked, denoise.has_subject(), soft, scales)
        states = DPMSolver(sigmas, sampling.order).sample(strong, start.to(place))
        states = states.cpu() * channel_scales(scales, states).cpu()
        soft = soft.cpu()
        found += [
            layered_motion(state, scene.stage.matte, probability)
            for state, probability, scene in zip(states, soft, part, strict=True)
        ]
    return found
