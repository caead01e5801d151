"""The evaluation tells good from bad where the answer is known, and runs from end to end."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.tiny_model import write_model
from workers.pipeline.animation import Animation
from workers.pipeline.loader import STUDENT
from workers.training import evaluate, photos, plots
from workers.training.phrases import STRENGTH


@pytest.fixture(scope="module")
def scenes():
    return evaluate.test_scenes(60)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("tiny"))


def summary(motions, scenes):
    return evaluate.summary(evaluate.measure(motions, scenes))


def test_the_scenes_cover_the_whole_vocabulary():
    kinds = [scene.kind for scene in evaluate.test_scenes(len(evaluate.PAIRS) * len(STRENGTH))]
    assert len(set(kinds)) == len(kinds) == 237


def test_the_ground_truth_scores_perfectly(scenes):
    figures = summary(np.stack([scene.motion for scene in scenes]), scenes)
    assert figures["adherence"] == figures["adherence_camera"] == figures["adherence_object"] == 1
    assert figures["cosine"] == pytest.approx(1) == figures["magnitude_ratio"]
    assert figures["end_point_error_px"] == figures["roughness_px"] == 0


def test_half_the_motion_is_the_right_motion_of_half_the_size(scenes):
    figures = summary(np.stack([scene.motion / 2 for scene in scenes]), scenes)
    assert (figures["adherence"], figures["magnitude_ratio"]) == (1, pytest.approx(0.5))
    true = [np.linalg.norm(scene.motion, axis=0).mean() for scene in scenes]
    assert figures["end_point_error_px"] == pytest.approx(np.mean(true) / 2 * 256, rel=1e-4)


def test_an_unrequested_motion_is_not_a_hit(scenes):
    other = np.stack([scene.motion for scene in scenes[1:] + scenes[:1]])
    figures = summary(other, scenes)
    assert figures["adherence"] < 0.1
    assert figures["cosine"] < 0.5
    assert summary(0 * other, scenes)["adherence"] == 0  # nothing moves: found as nothing


def test_a_jitter_is_rough_and_hardly_wrong(scenes):
    true = np.stack([scene.motion for scene in scenes])
    jitter = true + 0.005 * (-1.0) ** np.arange(8)[None, None, :, None, None]
    figures = summary(jitter.astype(np.float32), scenes)
    assert figures["adherence"] > 0.9
    assert figures["roughness_px"] > 2 * figures["end_point_error_px"] > 0


def test_an_interval_holds_the_mean_and_shrinks_with_more_scenes():
    rng = np.random.default_rng(0)
    few, many = (rng.random(n) < 0.7 for n in (30, 3000))
    for values in (few.astype(float), many.astype(float)):
        low, high = evaluate.interval(values)
        assert low < values.mean() < high
    assert np.diff(evaluate.interval(many.astype(float))) < 0.05
    assert evaluate.interval(np.ones(5)) == (1, 1)


def test_an_evaluation_from_end_to_end(model_dir, tmp_path, monkeypatch):
    results = evaluate.run(model_dir, count=3, curve_count=2, cache_dir=tmp_path / "cache")
    assert {results[name].arm.passes for name in results} >= {96, 45, 24, 8, 4, 2}
    assert evaluate.served(results) == "student 4 x 1"
    assert results["student 4 x 1"].scenes == 3 and results["student 8 x 1"].scenes == 2
    table = evaluate.table(results)
    assert len(table.splitlines()) == 2 + len(results)
    assert "nan" not in table

    def fail(*_):
        raise AssertionError("sampled again although nothing changed")

    with monkeypatch.context() as patched:
        patched.setattr(Animation, "sample", fail)
        again = evaluate.run(model_dir, count=3, curve_count=2, cache_dir=tmp_path / "cache")
    assert evaluate.table(again) == table

    plots.curve(results, tmp_path / "curve.png")
    plots.confusion(evaluate.pairs_of(results["student 4 x 1"].measured), tmp_path / "c.png")
    for name in ("curve.png", "c.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300


def test_contact_sheets_show_each_photo_and_print_figures(model_dir, tmp_path):
    animation = Animation.load(model_dir, network=STUDENT)
    [line] = photos.contact_sheets(animation, tmp_path, 2)
    assert line.startswith("- 2 photos: motion_px")
    with Image.open(tmp_path / "photos.jpg") as sheet:
        assert sheet.size == (5 * photos.SIDE, 2 * (photos.SIDE + 18))
    figures = json.loads((tmp_path / "photos.json").read_text())
    assert list(figures) == list(photos.PHOTOS)[:2]


def test_every_photo_exists():
    assert len(photos.PHOTOS) >= 12
    for name in photos.PHOTOS:
        assert max(photos.load(name).shape) == photos.SIDE


def test_figures_without_a_reference_tell_a_zoom_from_a_wobble():
    line = (torch.arange(16) + 0.5) / 8 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    time = (torch.arange(8) + 1)[:, None, None] / 8
    zoom = -0.2 * torch.stack([x, y])[:, None] * time
    wobble = 0.02 * torch.stack([torch.sin(12 * x), torch.sin(12 * y)])[:, None] * time
    plain, wobbly = (photos.no_reference(u, 256, 256) for u in (zoom, wobble))
    assert plain["wobble_percent"] < 0.1 < 3 < wobbly["wobble_percent"]
    assert plain["fold_share"] == 0
    folded = photos.no_reference(-1.5 * torch.stack([x, y])[:, None] * time, 256, 256)
    assert folded["fold_share"] > 0.1
