"""A subject's own motion does not come out much weaker than its prompt asks for."""

import numpy as np
import pytest
import torch

from workers.pipeline.affine import to_fields, to_path
from workers.pipeline.asked import PARALLAX, Asked
from workers.pipeline.body_strength import SHARE, bodies_strengthened, least_rms, moments
from workers.pipeline.layer_state import BODY, CAMERA, centre_of
from workers.pipeline.soft_strength import LEAST_NOISE, MOST_SCALED
from workers.training.captions import Motion
from workers.training.motions import truth_of
from workers.training.scenes import draw_scene

SCALES = (0.06, 0.07, 0.014, 0.01)
MUCH, LITTLE = (torch.tensor(LEAST_NOISE * factor) for factor in (2.0, 0.5))
MATTE = torch.zeros(16, 16)
MATTE[4:14, 3:9] = 1


def state(body, camera=None):
    """A state with these paths, (T, 2, 3) in half sides."""
    x = torch.randn(1, 8, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    x[:, BODY] = to_fields(body[None], 16) / SCALES[1]
    x[:, CAMERA] = to_fields((torch.zeros_like(body) if camera is None else camera)[None], 16)
    x[:, CAMERA] /= SCALES[0]
    return x


def of(words, x, sigma=MUCH, matte=MATTE):
    denoise = bodies_strengthened(lambda x, sigma: x, [Asked.read(words)], matte[None], SCALES)
    return denoise(x, sigma)


def spin(angle):
    path = torch.zeros(8, 2, 3)
    path[:, 0, 1], path[:, 1, 0] = -angle, angle
    return path


def rms_of(path, matte):
    """Over the subject and the clip, of a path around the subject's centre."""
    y, x = torch.meshgrid(*[(torch.arange(16) + 0.5) / 8 - 1] * 2, indexing="ij")
    at = torch.stack([x - centre_of(matte)[0], y - centre_of(matte)[1], torch.ones_like(x)])
    moved = torch.einsum("tck,kyx->tyxc", path, at)
    return ((moved.square().sum(-1) * matte).sum() / matte.sum() / len(path)).sqrt().item()


@pytest.mark.parametrize("thing", ["sway", "bob", "spin", "pulse"])
def test_no_truth_is_weaker_than_what_is_wanted(thing):
    """A few are, where a subject is no rectangle; most are stronger."""
    shares = []
    for number in range(60):
        scene = draw_scene(5, number, None, kind=Motion("still", thing, "normal", "subject"))
        if scene.stage.has_subject:
            truth = truth_of(scene.kind, scene.stage, 1.0, scene.free)
            matte = scene.stage.matte
            shares.append(least_rms(Asked(object=thing), matte) / rms_of(truth.body, matte))
    assert len(shares) > 40
    assert 0.25 < np.median(shares) <= SHARE * 1.05
    assert np.percentile(shares, 90) < 1.1


@pytest.mark.parametrize(("adverb", "amount"), [("gently ", 0.6), ("", 1.0), ("strongly ", 1.5)])
def test_a_weak_body_gets_the_strength_that_was_asked_for(adverb, amount):
    weak = state(spin(0.05))
    strong = of(f"{adverb}subject spin, pan left", weak)
    path = SCALES[1] * to_path(strong[:, BODY])[0]
    wanted = least_rms(Asked(object="spin", amount=amount), MATTE)
    assert rms_of(path, MATTE) == pytest.approx(wanted, rel=1e-3)
    ratio = path[:, 1, 0] / 0.05
    assert torch.allclose(ratio, ratio.mean(), rtol=1e-4) and ratio.mean() > 1
    # Nothing else changes.
    assert torch.equal(strong[:, CAMERA], weak[:, CAMERA])
    assert torch.equal(strong[:, BODY.stop :], weak[:, BODY.stop :])


def test_what_the_camera_does_to_a_nearer_subject_is_not_scaled():
    camera = torch.zeros(8, 2, 3)
    camera[:, 0, 2], camera[:, 0, 0], camera[:, 1, 1] = -0.17, -0.1, -0.1
    nearer = PARALLAX * camera
    nearer[..., 2] -= PARALLAX * 0.1 * centre_of(MATTE)
    strong = of("spin, pan left", state(spin(0.05) + nearer, camera))
    own = SCALES[1] * to_path(strong[:, BODY])[0] - nearer
    assert own[:, 0, 0].abs().max() < 1e-5 and own[:, :, 2].abs().max() < 1e-5
    assert own[0, 1, 0] > 0.1


@pytest.mark.parametrize(
    ("words", "angle", "sigma"),
    [
        ("spin", 0.6, MUCH),  # strong enough
        ("spin", 0.05, LITTLE),  # by then the network knows
        ("background spin", 0.05, MUCH),
        ("drift left", 0.05, MUCH),
        ("pan left", 0.05, MUCH),
        ("a spinning top", 0.05, MUCH),
    ],
)
def test_anything_else_stays_as_it_is(words, angle, sigma):
    x = state(spin(angle))
    assert torch.allclose(of(words, x, sigma), x, atol=1e-4)


def test_it_is_scaled_by_no_more_than_the_most():
    x = state(spin(0.001))
    path = SCALES[1] * to_path(of("spin", x)[:, BODY])[0]
    assert path[0, 1, 0].item() == pytest.approx(0.001 * MOST_SCALED, rel=1e-3)


def test_without_a_subject_nothing_is_scaled():
    x = state(spin(0.05))
    assert torch.equal(of("spin", x, matte=torch.zeros(16, 16)), x)


def test_moments_of_a_rectangle():
    xx, xy, yy = moments(MATTE).tolist()
    assert xx == pytest.approx((36 - 1) / 12 / 64) and yy == pytest.approx((100 - 1) / 12 / 64)
    assert xy == pytest.approx(0, abs=1e-6)
