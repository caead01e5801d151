"""The evaluation of layered motion tells good from bad where the answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.tiny_model import write_model
from workers.pipeline.animation import AMBIENT_PROMPT
from workers.pipeline.asked import Asked
from workers.training import arms, evaluate, measuring, report
from workers.training.captions import Motion
from workers.training.flow import motion_of, possible_motions, visible_flow
from workers.training.ledger import Ledger, Sample
from workers.training.measuring import Verdict
from workers.training.motions import BACKGROUND, SUBJECT, Freedom, stage_of, target_of, truth_of

QUIET = (measuring.STILL**2, measuring.STILL**2)


@pytest.fixture(scope="module")
def figures():
    """Of three arms, measured on the same scenes: the truth, its opposite, and no motion."""
    scenes = arms.composites(None, 6)
    true = [
        next(m for free, m in possible_motions(scene) if free == scene.free) for scene in scenes
    ]
    sampled = {
        "true": true,
        "opposite": [replace(m, camera=-m.camera, body=-m.body, soft=0 * m.soft) for m in true],
        "still": [replace(m, camera=0 * m.camera, body=0 * m.body, soft=0 * m.soft) for m in true],
    }
    rows = measuring.judge_all(list(zip(scenes, zip(*sampled.values(), strict=True), strict=True)))
    ledger = Ledger()
    for n, (scene, row) in enumerate(zip(scenes, rows, strict=True)):
        names = (Sample(name, n, scene.prompt) for name in sampled)
        ledger.add(zip(names, row, strict=True))
    return {
        name: report.summary(evaluate.measured(ledger, arms.Arm(name, None, None), scenes))
        for name in sampled
    }


def test_the_scenes_have_subjects_and_cover_the_vocabulary():
    scenes = arms.composites(None, 120)
    assert all(scene.stage.has_subject for scene in scenes)
    assert len({(s.kind.camera, s.kind.object, s.kind.target) for s in scenes}) > 70
    assert {s.kind.target for s in scenes} == {"", SUBJECT, BACKGROUND}


def test_the_truth_is_found_in_every_scene(figures):
    assert figures["true"]["adherence"] == 1
    assert figures["true"]["end_point_error_px"] == pytest.approx(0, abs=1e-2)
    assert figures["true"]["end_point_error_found_px"] == pytest.approx(0, abs=1e-2)
    assert figures["true"]["camera_strength"] == pytest.approx(1, abs=1e-3)


def test_another_motion_is_not(figures):
    assert figures["opposite"]["adherence"] < 0.5
    assert figures["still"]["adherence"] < 0.3 and figures["still"]["end_point_error_px"] > 3


def test_a_subject_that_is_too_thin_to_fill_a_cell_is_still_compared():
    """A rocket of two pixels' width once made every likeness 0 / 0, and no motion was found."""
    thin = np.zeros((64, 64), np.float32)
    thin[10:50, 29:31] = 1
    nothing = np.zeros_like(thin)
    stage, matte = stage_of(thin, nothing, nothing), torch.from_numpy(thin)
    kinds = [Motion("zoom in", thing, "normal", SUBJECT) for thing in ("spin", "bob", "pulse")]
    kinds.append(Motion("pan left", "sway", "normal", BACKGROUND))
    points = measuring.FOUND_POINTS
    flows = torch.stack(
        [
            visible_flow(motion_of(truth_of(kind, stage, 1.0, Freedom()), stage), matte, points)
            for kind in kinds
        ]
    )
    assert measuring.subject_points(matte, points).any()
    for k, flow in enumerate(flows):
        alike = measuring.likeness(flow, flows, matte, QUIET)
        assert int(alike.argmax()) == k and alike[k] == pytest.approx(2, abs=1e-4)


def test_a_region_without_a_point_does_not_count():
    flow = torch.randn(2, 8, 16, 16)
    alike = measuring.likeness(flow, torch.stack([flow, -flow]), torch.zeros(64, 64), QUIET)
    assert alike[0] == pytest.approx(1) and alike[1] < 0


def drifting_along(count):
    """Scenes in which the camera pans along with its subject, which nearly rests in the frame."""
    for n, scene in enumerate(arms.composites(None, count)):
        way = ("left", "right")[n % 2]
        kind = Motion(f"pan {way}", f"drift {way}", "normal", SUBJECT)
        yield replace(scene, kind=kind, amount=1.0, free=Freedom())


def found_off_by(camera, thing, count=12):
    """The share of such scenes in which a truth of other strengths is found."""
    hits = []
    for scene in drifting_along(count):
        pan, drift = (
            truth_of(part, scene.stage, by, Freedom())
            for part, by in (
                (replace(scene.kind, object="still", target=""), camera),
                (replace(scene.kind, camera="still"), thing),
            )
        )
        motion = motion_of(replace(pan, body=pan.body + drift.body), scene.stage)
        [verdict] = measuring.judge((scene, [motion]))
        hits.append(verdict.found == scene.kind)
    return np.mean(hits)


OFF_BY_A_TENTH = ((1.1, 1), (0.9, 1), (1, 1.1), (1, 0.9))


def test_the_truth_is_found_a_tenth_too_weak_or_too_strong():
    assert min(found_off_by(*each) for each in OFF_BY_A_TENTH) >= 0.9


def test_without_a_tolerance_it_was_not(monkeypatch):
    monkeypatch.setattr(measuring, "TOLERANCE", 0)
    assert found_off_by(1, 1) == 1 and min(found_off_by(*each) for each in OFF_BY_A_TENTH) < 0.2


def test_motions_that_differ_in_strength_alone_are_not_told_apart():
    along = Motion("pan left", "drift left", "normal", SUBJECT)
    behind = Motion("still", "drift right", "normal", BACKGROUND)
    assert measuring.twin_of(along) == behind and measuring.twin_of(behind) == along
    assert measuring.twin_of(Motion("pan left", "drift right", "normal", SUBJECT)) is None
    scene = next(drifting_along(1))
    assert behind not in measuring.vocabulary(scene) and along in measuring.vocabulary(scene)


def test_what_is_as_good_as_none_grows_with_what_was_asked_for():
    still, moving = (
        measuring.quiet_of(replace(scene, amount=amount))
        for scene in drifting_along(1)
        for amount in (0.0, 1.0)
    )
    assert still == pytest.approx(QUIET, rel=1e-3)
    assert all(more > 10 * less for less, more in zip(still, moving, strict=True))


def test_held_out_phrases_ask_for_the_same_motion():
    plain, held_out = (arms.composites(None, 20, words) for words in (arms.PLAIN, arms.HELD_OUT))
    assert [s.kind for s in plain] == [s.kind for s in held_out]
    assert sum(a.prompt != b.prompt for a, b in zip(plain, held_out, strict=True)) > 15


@pytest.mark.parametrize(("words", "least"), [(arms.READ_FREE, 0.9), (arms.READ_HELD_OUT, 0.9)])
def test_the_grammar_reads_phrases_as_they_are_meant(words, least):
    """Cameras, objects and what these move; a prompt's own adverbs may contradict the scene's."""
    right = []
    for scene in arms.composites(None, 150, words):
        asked, read = measuring.resolved(scene), Asked.read(scene.prompt)
        meant = target_of(replace(scene.kind, target=read.target or ""), scene.stage)
        found = (read.camera, read.object, meant if read.object != "still" else "")
        right.append(found == (asked.camera, asked.object, asked.target))
    assert np.mean(right) >= least


def test_what_the_grammar_makes_nothing_of_is_sent_as_a_job_sends_it():
    assert arms.as_sent("asdf qwer") == AMBIENT_PROMPT
    assert arms.as_sent("the helmet sways gently") == "gently subject sway"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A tiny model's directory, its ledger, and the results of two scenes."""
    directory = write_model(tmp_path_factory.mktemp("model"))
    kept = directory / "eval/ledger.jsonl"
    wanted = ("undistilled 4", "student 4 x 1")
    return directory, kept, evaluate.run(directory, None, count=2, wanted=wanted, kept=kept)


def test_an_evaluation_from_end_to_end(evaluated):
    directory, _, results = evaluated
    assert {result.arm.passes for result in results.values()} == {4}
    table = report.table(results, 10.0)
    assert len(table.splitlines()) == 2 + len(results) == 8
    assert "points" in report.paired(results, "student 4 x 1", "undistilled 4 x 1")
    model = arms.Model(directory)
    arm = results["student 4 x 1"].arm
    figures = evaluate.camera_strengths(model, arm, None, pictures=1)
    assert set(figures) >= {"camera_strength_slope", "camera_strength_gentle"}
    assert np.isfinite(figures["camera_strength"])


def test_errors_are_compared_where_both_find_the_motion_and_where_one_alone_does():
    asked = [Motion("pan left", "still", "normal")] * 4
    missed = Motion("pan right", "still", "normal")

    def result(hits, errors):
        found = [kind if hit else missed for kind, hit in zip(asked, hits, strict=True)]
        measured = report.Measured(found, asked, np.array(errors), np.ones(4))
        return report.Result(arms.Arm("a", None, None), measured)

    results = {"a": result([1, 1, 1, 0], [2.0, 4, 1, 9]), "b": result([1, 1, 0, 0], [1.0, 2, 4, 9])}
    compared = report.paired(results, "a", "b")
    assert "2.00 x in the 2 scenes where both" in compared
    assert "0.25 x in the 1 scenes where the first alone" in compared
    assert report.summary(results["b"].measured)["end_point_error_found_px"] == 1.5


def test_an_evaluation_goes_on_where_it_was_stopped(evaluated, tmp_path):
    directory, kept, results = evaluated
    name = "undistilled 4 x 1"
    first, second = (line for line in kept.read_text().splitlines() if f'"{name}"' in line)
    changed = json.loads(first) | {"error_px": 99.0}  # told from a new measurement
    stopped = tmp_path / "ledger.jsonl"
    stopped.write_text(json.dumps(changed) + "\n" + second[:40])
    again = evaluate.run(directory, None, count=2, wanted=(name,), kept=stopped)[name].measured
    assert again.found == results[name].measured.found
    # Alone in its batch, a scene is not the same to the last bit of bf16.
    assert again.error_px == pytest.approx([99, results[name].measured.error_px[1]], rel=1e-3)
    assert [json.loads(line)["scene"] for line in stopped.read_text().splitlines()] == [0, 1]
    assert len(Ledger("of another version", stopped).verdicts) == 0


def test_a_scene_has_the_same_noise_in_every_evaluation(evaluated):
    model = arms.Model(evaluated[0])
    [arm] = arms.arms(model, ["undistilled 4 x 1"])
    scenes = arms.composites(None, 2)
    whole = model.sample(arm, scenes)
    [alone] = model.sample(arm, scenes[1:], [1])
    for part in ("camera", "body", "soft"):  # the same but for the last bits of bf16
        got, wanted = getattr(alone, part), getattr(whole[1], part)
        assert (got - wanted).norm() < 0.02 * wanted.norm()


def test_the_network_that_bends_runs_only_where_something_bends(evaluated):
    """And whoever shares a batch with such a scene gets the same motion as alone."""
    model = arms.Model(evaluated[0])
    [arm] = arms.arms(model, ["undistilled 4 x 1"])
    scenes = arms.composites(None, 2)
    calls = []
    arm.network.unet.register_forward_hook(lambda *_: calls.append(1))

    def bending(*sure):
        logits = torch.tensor(sure).view(-1, 1, 1, 1).expand(-1, 2, 16, 16)
        arm.network.softness.forward = lambda static, _: logits[: len(static)]
        return model.sample(arm, scenes)

    closed = bending(-50.0, -50.0)
    assert not calls and not any(motion.soft.any() for motion in closed)
    mixed = bending(50.0, -50.0)
    assert len(calls) == 4 and mixed[0].soft.any() and not mixed[1].soft.any()
    assert torch.allclose(mixed[1].camera, closed[1].camera, atol=1e-5)


def test_verdicts_survive_a_file(tmp_path):
    sample = Sample("student 4 x 1", 7, "gently sway")
    verdict = Verdict(Motion("still", "sway", "gentle", SUBJECT), 4.25, float("nan"))
    Ledger("m 1", tmp_path / "a.jsonl").add([(sample, verdict)])
    back = Ledger("m 1", tmp_path / "a.jsonl").verdicts[sample]
    assert (back.found, back.error_px) == (verdict.found, 4.25) and np.isnan(back.strength)
