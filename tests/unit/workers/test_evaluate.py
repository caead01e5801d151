"""The evaluation of layered motion tells good from bad where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.loader import STUDENT, TEACHER, save_config, save_weights
from workers.training import evaluate
from workers.training.captions import Motion
from workers.training.flow import motion_of, possible_motions, visible_flow
from workers.training.motions import BACKGROUND, SUBJECT, Freedom, stage_of, truth_of
from workers.training.train import model_config


@pytest.fixture(scope="module")
def scenes():
    return evaluate.composites(None, 8)


def truths(scenes):
    return [
        next(m for free, m in possible_motions(scene) if free == scene.free) for scene in scenes
    ]


def measured(motions, scenes):
    return evaluate.measure({"arm": motions}, scenes)["arm"]


def test_the_scenes_have_subjects_and_cover_the_vocabulary():
    scenes = evaluate.composites(None, 120)
    assert all(scene.stage.has_subject for scene in scenes)
    assert len({(s.kind.camera, s.kind.object, s.kind.target) for s in scenes}) > 70
    assert {s.kind.target for s in scenes} == {"", SUBJECT, BACKGROUND}


def test_the_truth_is_found_in_every_scene(scenes):
    figures = evaluate.summary(measured(truths(scenes), scenes))
    assert figures["adherence"] == 1
    assert figures["end_point_error_px"] == pytest.approx(0, abs=1e-2)
    assert figures["camera_strength"] == pytest.approx(1, abs=1e-3)


def test_another_motion_is_not(scenes):
    others = [
        replace(motion, camera=-motion.camera, body=-motion.body, soft=0 * motion.soft)
        for motion in truths(scenes)
    ]
    assert evaluate.summary(measured(others, scenes))["adherence"] < 0.5
    still = [
        replace(m, camera=0 * m.camera, body=0 * m.body, soft=0 * m.soft) for m in truths(scenes)
    ]
    figures = evaluate.summary(measured(still, scenes))
    assert figures["adherence"] < 0.3 and figures["end_point_error_px"] > 3


def test_a_subject_that_is_too_thin_to_fill_a_cell_is_still_compared():
    """A rocket of two pixels' width once made every likeness 0 / 0, and no motion was found."""
    thin = np.zeros((64, 64), np.float32)
    thin[10:50, 29:31] = 1
    nothing = np.zeros_like(thin)
    stage, matte = stage_of(thin, nothing, nothing), torch.from_numpy(thin)
    kinds = [Motion("zoom in", thing, "normal", SUBJECT) for thing in ("spin", "bob", "pulse")]
    kinds.append(Motion("pan left", "sway", "normal", BACKGROUND))
    points = evaluate.FOUND_POINTS
    flows = torch.stack(
        [
            visible_flow(motion_of(truth_of(kind, stage, 1.0, Freedom()), stage), matte, points)
            for kind in kinds
        ]
    )
    assert evaluate.subject_points(matte, points).any()
    for k, flow in enumerate(flows):
        alike = evaluate.likeness(flow, flows, matte)
        assert int(alike.argmax()) == k and alike[k] == pytest.approx(2, abs=1e-4)


def test_a_region_without_a_point_does_not_count():
    flow = torch.randn(2, 8, 16, 16)
    alike = evaluate.likeness(flow, torch.stack([flow, -flow]), torch.zeros(64, 64))
    assert alike[0] == pytest.approx(1) and alike[1] < 0


def test_held_out_phrases_ask_for_the_same_motion():
    plain, held_out = (
        evaluate.composites(None, 20, words) for words in (evaluate.PLAIN, evaluate.HELD_OUT)
    )
    assert [s.kind for s in plain] == [s.kind for s in held_out]
    assert sum(a.prompt != b.prompt for a, b in zip(plain, held_out, strict=True)) > 15


def test_an_evaluation_from_end_to_end(tmp_path):
    config = model_config(toy=True)
    torch.manual_seed(0)
    save_config(tmp_path, config)
    for name in (TEACHER, STUDENT):
        save_weights(tmp_path, name, LayeredDenoiser(config.network).state_dict())
    wanted = ("undistilled 4", "student 4 x 1")
    results = evaluate.run(tmp_path, None, count=3, wanted=wanted)
    assert {result.arm.passes for result in results.values()} == {4}
    table = evaluate.table(results, 10.0)
    assert len(table.splitlines()) == 2 + len(results) == 6
    assert "points" in evaluate.paired(results, "student 4 x 1", "undistilled 4 x 1")
    model = evaluate.Model(tmp_path)
    arm = results["student 4 x 1"].arm
    figures = evaluate.camera_strengths(model, arm, None, pictures=1)
    assert set(figures) >= {"camera_strength_slope", "camera_strength_gentle"}
    assert np.isfinite(figures["camera_strength"])
