"""Keeps of a denoised motion what its prompt asked for: nothing else moves, not even a little.

How far things go and how they get there is the network's. Prompts in free words are not touched.
"""

import torch
from torch import Tensor

from workers.pipeline.asked import (
    BACKGROUND,
    CAMERA,
    PARALLAX,
    SOFT,
    STILL,
    SUBJECT,
    Asked,
)

# Which of (x, y, growth, turn) a background makes that moves as an object would.
_AS_A_WHOLE = {
    "bob": (0, 1, 0, 0),
    "spin": (0, 0, 0, 1),
    "pulse": (0, 0, 1, 0),
    "drift left": (1, 0, 0, 0),
    "drift right": (1, 0, 0, 0),
}


def camera_only(path: Tensor, asked: Asked) -> Tensor:
    """Of a camera's path (T, 2, 3), the shifts, the growth or the turn that were asked for."""
    parts = CAMERA[asked.camera]
    if asked.camera == STILL and asked.target == BACKGROUND and asked.object not in SOFT:
        parts = _AS_A_WHOLE.get(asked.object, parts)
    x, y, growth, turn = (float(part != 0) for part in parts)
    larger = growth * (path[:, 0, 0] + path[:, 1, 1]) / 2
    turned = turn * (path[:, 1, 0] - path[:, 0, 1]) / 2
    top = torch.stack([larger, -turned, x * path[:, 0, 2]], -1)
    return torch.stack([top, torch.stack([turned, larger, y * path[:, 1, 2]], -1)], -2)


def moves_subject(asked: Asked) -> bool:
    """Whether the subject was asked to move as a body."""
    return asked.object not in (STILL, "ripple") and asked.target != BACKGROUND


def rooted(path: Tensor, top: float, base: float) -> Tensor:
    """A body's path (T, 2, 3) whose lowest line, y = base, moves neither up nor down.

    For a subject that the picture's lower edge cuts off: lifted, it would show the cut. Its highest
    line, y = top, moves as it did, so what was a hop becomes a stretch.
    """
    held = path.clone()
    lifted = path[:, 1, 1] * base + path[:, 1, 2]
    held[:, 1, 1] -= lifted / (base - top)
    held[:, 1, 2] += lifted * top / (base - top)
    return held


def carried_body(camera: Tensor, asked: Asked) -> Tensor:
    """The path (T, 2, 3) of a subject that was not asked to move by itself.

    It goes with the camera, a little further because it is nearer; in a turn, exactly as far. Where
    the background alone was asked to move, it rests.
    """
    if asked.target == BACKGROUND and asked.camera == STILL:
        return torch.zeros_like(camera)
    growth = (camera[:, 0, 0] + camera[:, 1, 1]) / 2
    nearer = torch.zeros_like(camera)
    nearer[:, 0, 0] = nearer[:, 1, 1] = growth
    nearer[..., 2] = camera[..., 2]
    return camera + PARALLAX * nearer


def starts_inside(asked: Asked | None) -> tuple[float, float]:
    """How far inside the picture background and subject start, in multiples of how far the camera
    moves away: so that it ends at the picture's borders and not beyond them."""
    if asked is None or asked.camera != "zoom out":
        return 0.0, 0.0
    return 1.0, 1.0 if moves_subject(asked) else 1.0 + PARALLAX


def soft_layers(asked: Asked | None) -> tuple[bool, bool]:
    """Whether background and subject may bend."""
    if asked is None:
        return True, True
    soft = asked.object in SOFT
    return soft and asked.target != SUBJECT, soft and asked.target != BACKGROUND
