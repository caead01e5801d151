"""Keeps a subject's own motion from coming out much weaker than its prompt asks for.

As with what is soft (soft_strength.py), words leave open which way a swing begins or a spin turns.
From much noise the prediction is a mean of the ways, and where they nearly cancel, few steps end
near it: a subject that hardly moves. Which way it goes is decided there, too, so the prediction of
the subject's own motion is only scaled, up to a share of what training shows.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from workers.pipeline.affine import to_fields, to_path
from workers.pipeline.asked import OBJECT, PARALLAX, STEEPEST_SWAY, Asked
from workers.pipeline.asked_only import moves_subject
from workers.pipeline.grid import place
from workers.pipeline.layer_state import BODY, CAMERA, centre_of, has_subject
from workers.pipeline.soft_strength import LEAST_NOISE, MOST_SCALED, Denoise

# Of the strength in training. The formulas below do not know all that the truth does, such as
# whether the picture's edge cuts a subject off; and this much is seen.
SHARE = 0.8
# Root mean squares over a clip of a swing, of what goes there and back, and of what goes on.
SWINGS, RETURNS, GOES_ON = 0.71, 0.61, 0.63


def least_rms(asked: Asked | None, matte: Tensor) -> float:
    """The root mean square, over a subject and a clip, that its own motion should have at least.

    In half sides. matte (g, g) in [0, 1]. 0: not known, or nothing of its own; a drift needs no
    help.
    """
    if asked is None or not moves_subject(asked) or not has_subject(matte):
        return 0.0
    xx, _, yy = moments(matte).tolist()
    across, height = math.sqrt(xx + yy), math.sqrt(12 * yy)  # of a rectangle
    whole = {
        "spin": OBJECT["spin"] * across * GOES_ON,
        "pulse": OBJECT["pulse"] * across * RETURNS,
        # What is rooted moves by a third of its top's square in the mean.
        "sway": min(OBJECT["sway"], STEEPEST_SWAY * height) / math.sqrt(3) * SWINGS,
        "bob": min(OBJECT["bob"], STEEPEST_SWAY / 2 * height) / math.sqrt(3) * SWINGS,
    }.get(asked.object, 0.0)
    return SHARE * asked.amount * whole


def moments(matte: Tensor) -> Tensor:
    """The mean squares of x, x y and y over mattes (..., g, g), around their centres, (..., 3)."""
    centre = centre_of(matte)[..., None, None]
    xy = place(matte.shape[-1]).to(matte) - centre
    x, y = xy[..., 0, :, :], xy[..., 1, :, :]
    weight = matte / matte.sum((-2, -1), keepdim=True).clamp(min=1e-6)
    return torch.stack([(weight * part).sum((-2, -1)) for part in (x * x, x * y, y * y)], -1)


def bodies_strengthened(
    denoise: Denoise, asked: Sequence[Asked | None], mattes: Tensor, scales: tuple[float, ...]
) -> Denoise:
    """denoise(x, sigma) -> x0 whose subjects do not move much less than the prompts ask for.

    asked (B,) and mattes (B, g, g): of each clip. scales: half sides per unit of each of a state's
    layers. Returns `denoise` itself if there is nothing to scale.
    """
    mattes = mattes.float()
    known = [least_rms(each, matte) for each, matte in zip(asked, mattes.cpu(), strict=True)]
    if not any(known):
        return denoise
    wanted = torch.tensor(known, device=mattes.device)
    xx, xy, yy = moments(mattes)[:, None, None].unbind(-1)  # (B, 1, 1) each
    centre = centre_of(mattes)[:, None]  # (B, 1, 2)

    def scaled(x: Tensor, sigma: Tensor) -> Tensor:
        x0 = denoise(x, sigma)
        if sigma < LEAST_NOISE:
            return x0
        camera, body = scales[0] * to_path(x0[:, CAMERA]), scales[1] * to_path(x0[:, BODY])
        # A subject goes further than the background because it is nearer: not a motion of its own.
        growth = (camera[..., 0, 0] + camera[..., 1, 1])[..., None] / 2  # (B, T, 1)
        shift = camera[..., 2] + growth * centre
        linear = growth[..., None] * torch.eye(2, device=growth.device)
        nearer = PARALLAX * torch.cat([linear, shift[..., None]], -1)
        own = body - nearer  # (B, T, 2, 3)
        a, b, c = own.unbind(-1)
        square = a * a * xx + 2 * a * b * xy + b * b * yy + c * c
        rms = square.sum(-1).mean(1).sqrt()
        factor = (wanted / rms.clamp(min=1e-6)).clamp(1, MOST_SCALED)[:, None, None, None]
        stronger = to_fields((nearer + factor * own) / scales[1], x0.shape[-1])
        return torch.cat([x0[:, CAMERA], stronger, x0[:, BODY.stop :]], 1)

    return scaled
