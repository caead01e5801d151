"""Gives ripples and moving foliage back the strength that averaging takes from them.

Words leave open which way a wave runs and when a gust begins. From much noise the best prediction
is therefore a mean of all ways, which is too weak, and with few steps the sample stays so. Which
way it goes is decided there, too, so the prediction is only scaled: to the root mean square that
this motion has in training, whatever its way. Less noise needs no help.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workers.pipeline.asked import BACKGROUND, SUBJECT, Asked
from workers.pipeline.layer_state import AFFINE, SOFT, SOFT_LAYERS, gate

# Root mean squares, over x, y and time, of soft motion of normal strength where it is soft, in half
# sides: those of the drawn truth (workers/training/motions.py), held to it by a test.
SOFT_RMS = {"ripple": 0.0358, "sway": 0.0405}
# The noise ratio above which predictions are scaled, and by how much at most. Both were chosen on
# training scenes.
LEAST_NOISE = 3.0
MOST_SCALED = 8.0

Denoise = Callable[[Tensor, Tensor], Tensor]


def soft_rms(asked: Asked | None, has_subject: bool) -> tuple[float, float]:
    """What the soft motion of background and subject should be, in half sides; 0: not known.

    A subject that sways bends with its body, by its height: that is left to the network.
    """
    if asked is None or asked.object not in SOFT_RMS:
        return 0.0, 0.0
    rms = SOFT_RMS[asked.object] * asked.amount
    if asked.object == "sway":
        return (rms if asked.target == BACKGROUND or not has_subject else 0.0), 0.0
    if asked.target == SUBJECT and has_subject:
        return 0.0, rms
    return rms, 0.0


def strengthened(
    denoise: Denoise,
    asked: Sequence[Asked | None],
    has_subject: Tensor,
    probability: Tensor,
    scales: tuple[float, ...],
) -> Denoise:
    """denoise(x, sigma) -> x0 whose soft motion is not weaker than the prompts ask for.

    asked and has_subject (B,): of each clip. probability (B, 2, g, g) that background and subject
    are soft. scales: half sides per unit of each of a state's layers. Returns `denoise` itself if
    there is nothing to scale.
    """
    wanted = torch.tensor(
        [soft_rms(each, there) for each, there in zip(asked, has_subject.tolist(), strict=True)]
    )
    open_ = gate(probability.float())
    area = open_.square().sum((2, 3))  # (B, 2)
    wanted = wanted.to(area.device) * (area > 0)
    if not wanted.any():
        return denoise
    units = wanted / torch.tensor(scales[-SOFT_LAYERS:], device=area.device)

    def scaled(x: Tensor, sigma: Tensor) -> Tensor:
        x0 = denoise(x, sigma)
        if sigma < LEAST_NOISE:
            return x0
        soft = x0[:, SOFT].unflatten(1, (SOFT_LAYERS, 2))  # (B, 2, 2, T, g, g)
        seen = (soft * open_[:, :, None, None]).square().sum((2, 3, 4, 5))
        values = soft.shape[2] * soft.shape[3]  # of a cell: x and y at each moment
        rms = (seen / (area * values).clamp(min=1e-6)).sqrt()
        factor = (units / rms.clamp(min=1e-6)).clamp(1, MOST_SCALED)
        stronger = soft * factor[:, :, None, None, None, None]
        return torch.cat([x0[:, AFFINE], stronger.flatten(1, 2)], 1)

    return scaled
