"""Noise levels: what pipelines and schedulers would make of them, and what the network gets."""

import inspect

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from workers.engines.diffusers import schedule
from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable

LIGHTNING = [1.0, 0.9375, 0.8333333, 0.625]  # told as 1000, 937.5, 833.3, 625: their authors
LTX = [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875]
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
SHIPPED = {
    "Wan": UniPCMultistepScheduler(**FLOW, flow_shift=3.0),
    "LTX": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1),
    "shift 5": FlowMatchEulerDiscreteScheduler(shift=5.0),
    "DPM": DPMSolverMultistepScheduler(**FLOW),
}


def table(**given):
    needed = {"pipeline": "P", "folder": "f", "activations_gib": 1.0, "first_frame": "kept"}
    return DiffusersTable(**needed | given)


@pytest.mark.parametrize("shipped", SHIPPED.values(), ids=list(SHIPPED))
@pytest.mark.parametrize("levels", [LIGHTNING, LTX])
def test_the_published_levels_are_used_whatever_is_asked_for(shipped, levels):
    fixed = schedule.scheduler_for(table(sigmas=levels), shipped)
    for asked in ({}, {"sigmas": [0.5]}, {"timesteps": [1]}, {"mu": 2.0}):
        fixed.set_timesteps(**{"num_inference_steps": 9, "device": "cpu"} | asked)
        assert fixed.sigmas.tolist() == pytest.approx([*levels, 0.0], abs=1e-6)
        assert fixed.timesteps.tolist() == pytest.approx([1000 * level for level in levels])


def test_pipelines_find_the_arguments_that_they_look_for():
    fixed = schedule.scheduler_for(table(sigmas=LTX), SHIPPED["LTX"])
    taken = inspect.signature(fixed.set_timesteps).parameters
    assert {"sigmas", "timesteps", "mu"} <= set(taken)


def test_without_our_help_the_last_levels_would_be_others():
    """Why this exists: the levels that stock schedulers make of the published ones."""
    shift = SHIPPED["shift 5"]
    shift.set_timesteps(4)
    assert shift.sigmas[3] < 0.1 < LIGHTNING[3]
    ltx = SHIPPED["LTX"]
    ltx.set_timesteps(sigmas=LTX, mu=1.0)
    assert ltx.sigmas[7] == pytest.approx(0.1) != LTX[7]


def test_a_solver_forgets_the_clip_before():
    fixed = schedule.scheduler_for(table(sigmas=LIGHTNING), SHIPPED["Wan"])

    def clip():
        fixed.set_timesteps(4, device="cpu")
        x = torch.ones(1, 2)
        for time in fixed.timesteps:
            x = fixed.step(0.3 * x, time, x, return_dict=False)[0]
        return x

    first = clip()
    fixed.set_timesteps(4, device="cpu")
    fixed.step(torch.ones(1, 2), fixed.timesteps[0], torch.ones(1, 2))  # and stopped
    assert torch.equal(clip(), first)


def test_edm_levels_become_the_networks_times():
    svd = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True
    )
    fixed = schedule.scheduler_for(table(sigmas=[700.0, 10.0, 0.5]), svd)
    fixed.set_timesteps(3, device="cpu")
    assert fixed.timesteps.tolist() == pytest.approx([1.63773, 0.57565, -0.17329], abs=1e-4)
    assert fixed.init_noise_sigma == pytest.approx(700, rel=1e-4)


def test_numbered_steps_take_no_levels():
    numbered = EulerDiscreteScheduler()
    with pytest.raises(Unusable, match=r"numbered steps; set use_flow_sigmas = true"):
        schedule.scheduler_for(table(sigmas=LIGHTNING), numbered)


def test_a_profile_without_levels_may_change_the_scheduler():
    made = schedule.scheduler_for(
        table(scheduler="FlowMatchEulerDiscreteScheduler", scheduler_config={"shift": 5.0}),
        SHIPPED["Wan"],
    )
    assert type(made) is FlowMatchEulerDiscreteScheduler and made.config.shift == 5.0
    with pytest.raises(Unusable, match=r"scheduler: diffusers .* has no Scheduler9\."):
        schedule.scheduler_for(table(scheduler="Scheduler9"), SHIPPED["Wan"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_network_was_told_is_compared(dtype):
    fixed = schedule.scheduler_for(table(sigmas=LIGHTNING), SHIPPED["Wan"])
    right = [torch.tensor([1000 * level, 0.0]).to(dtype) for level in LIGHTNING]
    twice = [time for time in right for _ in range(2)]  # guidance, token by token
    schedule.check_seen(fixed, LIGHTNING, right)
    schedule.check_seen(fixed, LIGHTNING, twice)
    for wrong in (right[:3], [*right, right[0]], [*right[:3], right[3] * 1.01]):
        with pytest.raises(Unusable, match=r"told the times 1000.*published sigmas are 1000, 93"):
            schedule.check_seen(fixed, LIGHTNING, wrong)


def test_another_schedule_in_the_pipeline_is_noticed_by_the_warm_up(place, load):
    engine = load(place("wan22"))
    engine._pipe.scheduler = SHIPPED["shift 5"]
    with pytest.raises(
        Unusable, match=r"told the times 1000, 909\.7, 717\.3, 24\.41; the published"
    ):
        engine.warm_up()
