"""From one sheet of denoised motion to layers.

The network denoises one displacement field for everything. What it says of the background becomes
a camera, what it says of the subject the motion of a body, so that straight things stay straight;
only water, foliage and the like keep a field that bends. How far each goes is what was asked; how
it gets there in time is the network's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.asked import (
    BACKGROUND,
    CAMERA,
    OBJECT,
    PARALLAX,
    SOFT,
    SOFT_BACKGROUND,
    STILL,
    SUBJECT,
    Asked,
    object_course,
    ramp,
    round_trip,
    swing,
)
from workers.pipeline.grid import extent, place
from workers.pipeline.layers import LayeredMotion, displaced

LEAST_CELLS = 1.5  # a smaller subject has no motion of its own
FIT_ROUNDS = 6
FIT_FLOOR = 1e-3  # half sides; closer to the fit, all cells count alike
# A network whose course has less than this of the asked strength did something else.
FOUND = 0.3
STRAY = 0.15  # how far a course in time may be from its usual one, as a share of its amplitude
LARGEST_LEAN = 0.22  # of a swaying body, as a share of its height
TOUCHES = 0.05  # half sides: a subject that ends nearer to the picture's lower edge is cut by it
# Soft motion: cells with less than the first share of the strongest motion rest, cells with more
# than the second move fully.
SOFT_FROM, SOFT_TO = 0.25, 0.6
SOFT_GAIN = (0.7, 2.0)  # limits of the factor that brings it to the asked strength


def decompose(
    sheet: Tensor, matte: Tensor, asked: Asked | None, shape: tuple[int, int] = (1, 1)
) -> LayeredMotion:
    """Split denoised motion (2, T, g, g) into layers.

    matte (g, g): how much of each cell the subject covers, 0 to 1; all zero without a subject.
    asked: what the prompt wants; None: unknown, so the sheet's own motion is kept as it is.
    shape: height and width of the picture in pixels; cells beyond it count for nothing.
    """
    field = sheet.detach().cpu().double()
    subject = matte.double().cpu() * _seen(field.shape[-1], shape)
    if subject.sum() < LEAST_CELLS:
        subject = torch.zeros_like(subject)
    ground = _seen(field.shape[-1], shape) * (1 - _spread(subject)).clamp(min=0) ** 2
    if ground.sum() < LEAST_CELLS:
        ground = _seen(field.shape[-1], shape)
    seen_camera = _similarity(field, ground)
    rest = field - displaced(seen_camera, field.shape[-1])
    if asked is None:
        camera, relative = seen_camera, torch.zeros_like(seen_camera)
        if subject.any():
            relative = _similarity(rest, subject**2)
    else:
        camera = _camera_path(seen_camera, asked)
        relative = _object_path(rest, subject, asked, shape)
    body = camera + relative + PARALLAX * _moving(camera)
    soft = torch.zeros(2, *field.shape)
    if asked is None or asked.object in (SOFT_BACKGROUND if asked.target == BACKGROUND else SOFT):
        soft = _soft(rest, subject, asked)
    return LayeredMotion(camera.float(), body.float(), soft.float())


def _seen(cells: int, shape: tuple[int, int]) -> Tensor:
    """1 for cells whose centre lies in the picture, (g, g)."""
    ex, ey = extent(*shape)
    x, y = place(cells).abs().double()
    edge = 1 / cells  # of a picture narrower than a cell, the nearest ones
    inside: Tensor = (x <= max(ex, edge)) & (y <= max(ey, edge))
    return inside.double()


def _spread(matte: Tensor) -> Tensor:
    """The matte, one cell wider."""
    wider: Tensor = F.max_pool2d(matte[None, None], 3, 1, 1)[0, 0]
    return wider


def _similarity(field: Tensor, weight: Tensor) -> Tensor:
    """The growth, turn and shift at each moment that fit most cells, as (T, 2, 3).

    Least absolute deviations, by reweighted least squares: what moves by itself does not count.
    """
    cells = field.shape[-1]
    x, y = place(cells).double().flatten(1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    # u = (p x - q y + c, q x + p y + d), columns p, q, c, d.
    rows_x, rows_y = torch.stack([x, -y, one, zero], 1), torch.stack([y, x, zero, one], 1)
    u = field.flatten(2)  # (2, T, n)
    base = weight.flatten()
    by_cell = base.clone()
    eye = 1e-9 * torch.eye(4, dtype=torch.float64)
    for _ in range(FIT_ROUNDS):
        normal = (rows_x.T * by_cell) @ rows_x + (rows_y.T * by_cell) @ rows_y + eye
        wanted = (rows_x.T * by_cell) @ u[0].T + (rows_y.T * by_cell) @ u[1].T  # (4, T)
        fit = torch.linalg.solve(normal, wanted)
        away = torch.stack([u[0].T - rows_x @ fit, u[1].T - rows_y @ fit])  # (2, n, T)
        by_cell = base / (away.square().sum(0).mean(-1).sqrt() + FIT_FLOOR)
    return _affine(*fit)


def _affine(growth: Tensor, turn: Tensor, along_x: Tensor, along_y: Tensor) -> Tensor:
    """(T, 2, 3) from four (T,)."""
    top = torch.stack([growth, -turn, along_x], -1)
    return torch.stack([top, torch.stack([turn, growth, along_y], -1)], -2)


def _camera_path(seen: Tensor, asked: Asked) -> Tensor:
    """The asked camera motion and nothing else, with the course in time that the network gave it.

    So an unasked zoom or drift is gone, and the strength is the asked one.
    """
    times = len(seen)
    if asked.camera == STILL:
        return torch.zeros_like(seen)
    end = [part * asked.amount for part in CAMERA[asked.camera]]
    parts = {
        "x": seen[:, 0, 2],
        "y": seen[:, 1, 2],
        "growth": (seen[:, 0, 0] + seen[:, 1, 1]) / 2,
        "turn": (seen[:, 1, 0] - seen[:, 0, 1]) / 2,
    }
    usual = [ramp(times)] * 4
    if asked.camera == "handheld":
        usual = [swing(times), round_trip(times), ramp(times), ramp(times)]
    x, y, growth, turn = (
        amplitude * _course(part / amplitude, course) if amplitude else torch.zeros_like(part)
        for amplitude, part, course in zip(end, parts.values(), usual, strict=True)
    )
    return _affine(growth, turn, x, y)


def _course(found: Tensor, usual: Tensor) -> Tensor:
    """A course in time of the usual strength, near to the usual one, as found."""
    gain = (found @ usual) / (usual @ usual)
    if not gain > FOUND:
        return usual
    course = usual + (found / gain - usual).clamp(-STRAY, STRAY)
    # A steady motion ends exactly where it was asked to.
    return course / course[-1] if usual[-1] > 0.5 else course


def _moving(camera: Tensor) -> Tensor:
    """The part of a camera's motion that has a parallax: shifts and growth, no turn."""
    growth = (camera[:, 0, 0] + camera[:, 1, 1]) / 2
    return _affine(growth, torch.zeros_like(growth), camera[:, 0, 2], camera[:, 1, 2])


def _object_path(rest: Tensor, subject: Tensor, asked: Asked, shape: tuple[int, int]) -> Tensor:
    """The asked motion of the subject as a body, relative to the background, (T, 2, 3)."""
    times = rest.shape[1]
    still = torch.zeros(times, 2, 3, dtype=torch.float64)
    if asked.object in (STILL, "ripple") or not subject.any() or asked.target == BACKGROUND:
        return still
    shape_of_motion = body_motion(asked.object, subject, shape)  # (2, 3), at normal strength
    along = displaced(shape_of_motion[None], rest.shape[-1])  # (2, 1, g, g)
    weight = subject**2
    found = (rest * along * weight).sum((0, 2, 3)) / (along.square() * weight).sum().clamp(min=1e-9)
    course = _course(found / asked.amount, object_course(asked.object, times))
    return asked.amount * course[:, None, None] * shape_of_motion


def body_motion(name: str, subject: Tensor, shape: tuple[int, int]) -> Tensor:
    """The displacement (2, 3) of a body at the height of an object motion.

    subject (g, g): its matte. What the lower edge of the picture cuts off is rooted there, so that
    no cut comes into view.
    """
    x, y = place(subject.shape[-1]).double()
    total = subject.sum()
    centre_x, centre_y = ((subject * line).sum() / total for line in (x, y))
    rows = (subject.amax(1) > 0.5).nonzero().flatten()
    half_cell = 1 / subject.shape[-1]
    lines = y[:, 0][rows] if len(rows) else centre_y[None]
    top, base = lines.min() - half_cell, lines.max() + half_cell
    lower_edge = extent(*shape)[1]
    base = base.clamp(max=lower_edge)
    height = (base - top).clamp(min=2 * half_cell)
    rooted = bool(base > lower_edge - max(TOUCHES, half_cell))
    size = OBJECT[name]
    made = torch.zeros(2, 3, dtype=torch.float64)
    if name == "sway":  # rooted at its lowest point
        lean = min(size / height.item(), LARGEST_LEAN)
        made[0] = lean * torch.stack([torch.zeros_like(base), torch.ones_like(base), -base])
    elif name == "bob" and rooted:  # stretches, as breathing does
        stretch = min(size / height.item(), LARGEST_LEAN / 2)
        made[1] = stretch * torch.stack([torch.zeros_like(base), -torch.ones_like(base), base])
    elif name == "bob":
        made[1, 2] = size
    elif name == "spin":
        made = size * torch.tensor(
            [[0.0, 1.0, -centre_y], [-1.0, 0.0, centre_x]], dtype=torch.float64
        )
    elif name == "pulse":
        anchor = base if rooted else centre_y
        made = -size * torch.tensor(
            [[1.0, 0.0, -centre_x], [0.0, 1.0, -anchor]], dtype=torch.float64
        )
    elif name.startswith("drift"):
        made[0, 2] = size if name == "drift left" else -size
    return made


def _soft(rest: Tensor, subject: Tensor, asked: Asked | None) -> Tensor:
    """What bends, (2, 2, T, g, g): of the background and of the subject.

    Only the layer that was asked to, only where the network moves it, and zero elsewhere.
    """
    soft = torch.zeros(2, *rest.shape, dtype=torch.float64)
    target = None if asked is None else asked.target
    if asked is not None and asked.object != "ripple" and subject.any() and target != BACKGROUND:
        return soft  # the subject moves, as a body
    length = rest.square().sum(0).mean(0).sqrt()  # (g, g), over time
    outside = 1 - _spread(subject)
    on, off = (
        (length * weight).sum() / weight.sum().clamp(min=1e-9) for weight in (subject, outside)
    )
    # Water is far more often behind a subject than on it.
    found = off < 0.5 * on if target is None else target == SUBJECT
    layer = 1 if subject.any() and found else 0
    weight = subject if layer else outside
    strongest = (length * weight).flatten().topk(max(1, weight.numel() // 20)).values.mean()
    if strongest <= 0:
        return soft
    mask = ((length / strongest - SOFT_FROM) / (SOFT_TO - SOFT_FROM)).clamp(0, 1)
    mask = mask * mask * (3 - 2 * mask)
    # On the subject it may reach one cell further than the matte: nothing is seen there.
    mask = mask * (_spread(subject) if layer else (outside - 0.5).clamp(min=0) * 2)
    gain = 1.0
    if asked is not None:
        wanted = 0.7 * OBJECT[asked.object] * asked.amount  # of a wave or a swing, over time
        gain = (wanted / strongest).clamp(*SOFT_GAIN).item()
    soft[layer] = gain * rest * mask
    return soft
