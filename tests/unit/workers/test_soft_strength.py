"""Ripples and moving foliage keep their strength; nothing else is touched."""

import numpy as np
import pytest
import torch

from workers.pipeline.animation import Animation
from workers.pipeline.asked import Asked
from workers.pipeline.layer_state import AFFINE, SOFT
from workers.pipeline.soft_strength import (
    LEAST_NOISE,
    MOST_SCALED,
    SOFT_RMS,
    soft_rms,
    strengthened,
)
from workers.training.captions import Motion
from workers.training.motions import truth_of
from workers.training.scenes import draw_scene

SCALES = (0.06, 0.07, 0.014, 0.01)
MUCH, LITTLE = (torch.tensor(LEAST_NOISE * factor) for factor in (2.0, 0.5))
OPEN = torch.ones(1, 2, 16, 16)


def prediction(rms):
    """A state whose soft layers have this root mean square in half sides."""
    x = torch.randn(1, 8, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    soft = x[:, SOFT].unflatten(1, (2, 2))
    soft *= rms / soft.square().mean((2, 3, 4, 5), keepdim=True).sqrt()
    x[:, SOFT] = (
        soft.flatten(1, 2) / torch.tensor(SCALES[2:]).repeat_interleave(2)[:, None, None, None]
    )
    return x


def of(words, x, sigma=MUCH, there=True, probability=OPEN):
    denoise = strengthened(
        lambda x, sigma: x, [Asked.read(words)], torch.tensor([there]), probability, SCALES
    )
    return denoise(x, sigma)


def rms_of(x):
    """Root mean squares of background and subject, in half sides."""
    return [
        (x[:, SOFT].unflatten(1, (2, 2))[:, i].square().mean().sqrt() * SCALES[2 + i]).item()
        for i in range(2)
    ]


@pytest.mark.parametrize(
    ("thing", "target", "layer"),
    [("ripple", "background", 0), ("ripple", "subject", 1), ("sway", "background", 0)],
)
def test_the_table_is_that_of_the_truth(thing, target, layer):
    found = []
    for number in range(12):
        scene = draw_scene(3, number, None, kind=Motion("still", thing, "normal", target))
        truth = truth_of(scene.kind, scene.stage, 1.0, scene.free)
        if scene.stage.has_subject:
            area = truth.masks[layer].square().sum() * truth.soft[layer, :, :, 0, 0].numel()
            found.append((truth.soft[layer].square().sum() / area).sqrt().item())
    assert len(found) > 6
    assert np.mean(found) == pytest.approx(SOFT_RMS[thing], rel=0.05)


@pytest.mark.parametrize(("adverb", "amount"), [("gently ", 0.6), ("", 1.0), ("strongly ", 1.5)])
def test_a_weak_prediction_gets_the_strength_that_was_asked_for(adverb, amount):
    weak = prediction(0.01)
    strong = of(f"{adverb}background ripple, pan left", weak)
    background, subject = rms_of(strong)
    assert background == pytest.approx(amount * SOFT_RMS["ripple"], rel=1e-3)
    assert subject == pytest.approx(0.01, rel=1e-3)
    # What it does, and how the layers move, stays as it is.
    assert torch.equal(strong[:, AFFINE], weak[:, AFFINE])
    ratio = strong[:, 4:6] / weak[:, 4:6]
    assert torch.allclose(ratio, ratio.mean(), rtol=1e-4)


def test_only_the_part_that_is_soft_is_measured():
    probability = OPEN.clone()
    probability[..., 8:] = 0
    weak = prediction(0.01)
    weak[..., 8:] = 100
    strong = of("background sway", weak, probability=probability)
    inside = (strong[:, 4:6, ..., :8].square().mean().sqrt() * SCALES[2]).item()
    assert inside == pytest.approx(SOFT_RMS["sway"], rel=1e-3)


@pytest.mark.parametrize(
    ("words", "x", "sigma", "there"),
    [
        ("background ripple", prediction(0.2), MUCH, True),  # strong enough
        ("background ripple", prediction(0.01), LITTLE, True),  # the way is decided
        ("pan left", prediction(0.01), MUCH, True),
        ("subject sway", prediction(0.01), MUCH, True),  # bends with its body
        ("sway", prediction(0.01), MUCH, True),
        ("the lake shimmers", prediction(0.01), MUCH, True),  # free words are not read
    ],
)
def test_nothing_else_is_touched(words, x, sigma, there):
    assert torch.equal(of(words, x, sigma, there), x)


def test_nothing_is_made_where_nothing_is_soft():
    x = prediction(0.01)
    assert torch.equal(of("background ripple", x, probability=0 * OPEN), x)


def test_next_to_nothing_is_not_blown_up():
    strong = of("background ripple", prediction(1e-4))
    assert rms_of(strong)[0] == pytest.approx(MOST_SCALED * 1e-4, rel=1e-3)


def test_without_a_subject_the_background_moves():
    assert soft_rms(Asked.read("sway"), has_subject=False) == (SOFT_RMS["sway"], 0)
    assert soft_rms(Asked.read("subject ripple"), has_subject=True) == (0, SOFT_RMS["ripple"])
    assert soft_rms(Asked.read("subject ripple"), has_subject=False) == (SOFT_RMS["ripple"], 0)


@torch.inference_mode()
def test_foliage_behind_a_subject_moves_in_a_clip_of_the_shipped_model():
    """The student left to itself averages the ways a gust may take to a fifth of one."""
    animation = Animation.load(matte="none")
    scene = draw_scene(4, 0, None, kind=Motion("still", "sway", "normal", "background"))
    number = 0
    while not (scene.stage.has_subject and scene.picture.foliage.mean() > 0.2):
        number += 1
        scene = draw_scene(4, number, None, kind=scene.kind)
    picture = np.concatenate([scene.picture.colours * 2 - 1, scene.picture.matte[None]])
    given = (
        torch.from_numpy(picture)[None],
        animation.tokenise("background sway")[None],
        animation.noise.draw(1, torch.Generator().manual_seed(0)),
        4,
        None,
    )
    alone, probability = animation.sample(*given, None)
    helped, _ = animation.sample(*given, Asked.read("background sway"))
    again, _ = animation.sample(*given, Asked.read("background sway"))
    assert torch.equal(helped, again)
    area = probability[0, 0] > 0.5
    assert area.any()
    before, after = (x[0, 4:6, :, area].square().mean().sqrt().item() for x in (alone, helped))
    assert after > 0.6 * SOFT_RMS["sway"]
    assert after > before
