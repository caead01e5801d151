"""Scenes with known layered motion, and batches of them.

Everything depends only on (seed, number) and the set of photos, so that training resumes exactly
and any scene of an evaluation can be made again. A picture is the expensive part, a motion is not:
a batch has several motions for each picture.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from workers.pipeline.text import PAD, Tokeniser
from workers.training import procedural
from workers.training.captions import AMBIENT_MOTION, Motion
from workers.training.motions import (
    AMOUNT,
    BACKGROUND,
    SOFT,
    SUBJECT,
    Freedom,
    Stage,
    Truth,
    draw_amount,
    freedoms,
    stage_of,
    truth_of,
)
from workers.training.photos import PhotoSet
from workers.training.phrases import CAMERA, OBJECT, STRENGTH
from workers.training.pictures import Picture, augmented
from workers.training.prompts import prompt

PHOTOS = 0.5  # share of the pictures, if there are any
# Captions of real clips are often wrong; this share of ours describes another motion. A network
# that learnt to doubt its prompt ignores it at times, unless it is guided.
MISLABELLED = 0.06
# Share of words whose own vector is hidden, so that their runs of letters learn the meaning.
UNKNOWN_WORDS = 0.08
# A picture's first motion trains what is soft, so it is soft more often.
SOFT_FIRST = 0.55
CAMERAS = [name for name in CAMERA if name != "still"]
OBJECTS = [name for name in OBJECT if name != "still"]


@dataclass(frozen=True)
class Scene:
    """A picture and how it moves."""

    picture: Picture
    stage: Stage
    kind: Motion
    amount: float  # multiplies all amplitudes
    free: Freedom
    prompt: str

    @cached_property
    def truth(self) -> Truth:
        return truth_of(self.kind, self.stage, self.amount, self.free)


@dataclass(frozen=True)
class Batch:
    """P pictures with M motions each; motion m of picture p is row p * M + m."""

    picture: Tensor  # (P, 4, p, p): colours in [-1, 1], the matte in [0, 1]
    has_subject: Tensor  # (P,) bool
    tokens: Tensor  # (P M, L, PIECES)
    camera: Tensor  # (P M, T, 2, 3)
    body: Tensor  # (P M, T, 2, 3)
    soft: Tensor  # (P, 2, 2, T, g, g), of the first motions
    masks: Tensor  # (P M, 2, g, g)
    energies: Tensor  # (P M, 4): mean squares of the motion that the caption describes

    def to(self, place: torch.device) -> "Batch":
        """The same on another device."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Batch(*(part.to(place, non_blocking=True) for part in parts))


def draw_picture(seed: int, number: int, photos: PhotoSet | None, *, real: bool = False) -> Picture:
    """Picture `number` of an endless series; `real`: nothing in it is drawn."""
    rng = np.random.default_rng((seed, number, 4))
    if photos is not None and (real or rng.random() < PHOTOS):
        return augmented(photos.draw(rng, real=real), rng)
    return augmented(procedural.draw(rng), rng)


def stage_in(picture: Picture) -> Stage:
    """What of a picture decides how it moves."""
    return stage_of(picture.matte, picture.water, picture.foliage, picture.lower_edge)


def draw_kind(rng: np.random.Generator, *, soft: float = 0.0) -> Motion:
    """What happens; with a probability of `soft` something that is soft."""
    u = rng.random()
    if u < 0.03:
        return Motion("still", "still", "normal")
    if u < 0.06:
        return AMBIENT_MOTION
    strength = str(rng.choice(list(STRENGTH)))
    if rng.random() < soft:
        thing = str(rng.choice(SOFT, p=[0.4, 0.6]))
    else:
        thing = "still" if rng.random() < 0.3 else str(rng.choice(OBJECTS))
    moves = thing == "still" or rng.random() < 0.5
    camera = str(rng.choice(CAMERAS)) if moves else "still"
    target = ""
    if thing != "still":
        target = str(rng.choice(["", SUBJECT, BACKGROUND], p=[0.5, 0.25, 0.25]))
        if target == BACKGROUND and thing not in SOFT:
            camera = "still"  # two motions of the same layer cannot be told apart
    return Motion(camera, thing, strength, target)


def draw_scene(
    seed: int,
    number: int,
    photos: PhotoSet | None,
    *,
    kind: Motion | None = None,
    motion: int = 0,
    held_out: bool = False,
    real: bool = False,
) -> Scene:
    """Scene `number` of a series, with motion `motion` of its picture, or one of kind `kind`."""
    picture = draw_picture(seed, number, photos, real=real)
    stage = stage_in(picture)
    return _scene(picture, stage, (seed, number, motion), kind, held_out)


def _scene(
    picture: Picture,
    stage: Stage,
    series: tuple[int, int, int],
    kind: Motion | None,
    held_out: bool = False,
) -> Scene:
    rng = np.random.default_rng((*series, 5))
    drawn = draw_kind(rng, soft=SOFT_FIRST if series[2] == 0 else 0.0)
    kind = drawn if kind is None else kind
    amount = draw_amount(kind, rng)
    ways = freedoms(kind)
    free = ways[rng.integers(len(ways))]
    words = prompt(kind, np.random.default_rng((*series, 6)), held_out=held_out)
    return Scene(picture, stage, kind, amount, free, words)


def make_batch(
    seed: int,
    step: int,
    pictures: int,
    motions: int,
    tokenise: Tokeniser,
    photos: PhotoSet | None,
    *,
    mislabelled: float = MISLABELLED,
) -> Batch:
    """The scenes of one step."""
    colours, mattes, there, tokens, masks, energies, soft = [], [], [], [], [], [], []
    camera, body = [], []
    rng = np.random.default_rng((seed, step, 7))
    for p in range(pictures):
        number = step * pictures + p
        picture = draw_picture(seed, number, photos)
        stage = stage_in(picture)
        colours.append(torch.from_numpy(picture.colours))
        mattes.append(torch.from_numpy(picture.matte) * stage.has_subject)
        there.append(stage.has_subject)
        for m in range(motions):
            scene = _scene(picture, stage, (seed, number, m), None)
            words = scene.prompt
            truth = truth_of(scene.kind, stage, scene.amount, scene.free, with_soft=m == 0)
            if rng.random() < mislabelled:
                told = draw_kind(rng)
                words = prompt(told, rng)
                described = truth_of(told, stage, AMOUNT[told.strength], scene.free)
                energies.append(described.energies())
            else:
                energies.append(
                    truth.energies() * (AMOUNT[scene.kind.strength] / scene.amount) ** 2
                )
            tokens.append(tokenise(words))
            camera.append(truth.camera)
            body.append(truth.body)
            masks.append(truth.masks)
            if m == 0:
                soft.append(truth.soft)
    return Batch(
        torch.cat([torch.stack(colours) * 2 - 1, torch.stack(mattes)[:, None]], 1),
        torch.tensor(there),
        _with_unknown_words(torch.stack(tokens), tokenise, rng),
        torch.stack(camera),
        torch.stack(body),
        torch.stack(soft),
        torch.stack(masks),
        torch.stack(energies),
    )


def _with_unknown_words(tokens: Tensor, tokenise: Tokeniser, rng: np.random.Generator) -> Tensor:
    """Hide the own vectors of some words behind those of others."""
    hidden = torch.from_numpy(rng.random(tokens.shape[:2])) < UNKNOWN_WORDS
    other = torch.from_numpy(rng.integers(1, tokenise.buckets + 1, tokens.shape[:2]))
    tokens[..., 0] = torch.where(hidden & (tokens[..., 0] != PAD), other, tokens[..., 0])
    return tokens
