"""The noise levels that a distilled model was made for, whatever its pipeline asks for.

Pipelines compute their own levels, and schedulers shift them: LightX2V's four steps end at 0.024
instead of 0.625, LTX's eight at 0.1 instead of 0.42, and the clip is merely bad. So a subclass of
the scheduler ignores what it is asked, and `check_seen` compares what the network really got.
"""

from collections.abc import Sequence
from math import log
from typing import Any

import diffusers
import torch
from diffusers import SchedulerMixin

from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable

TOLERANCE = 1e-4

# How each scheduler turns a noise level into the time that it tells the network.
FLOW, CONTINUOUS = "flow", "continuous"
FIXABLE = (
    "FlowMatchEulerDiscreteScheduler",
    "UniPCMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
)


class FixedSigmas:
    """Mixed into a scheduler class, before it."""

    sigmas: torch.Tensor
    timesteps: torch.Tensor
    _levels: tuple[float, ...] = ()

    def fix(self, sigmas: Sequence[float]) -> None:
        """Use these noise levels, falling, and 0 after the last one."""
        self._levels = tuple(sigmas)

    # The names are those that pipelines look for before they pass an argument.
    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: Any = None,
        mu: float | None = None,
        timesteps: Any = None,
    ) -> None:
        # The base class forgets the clip before: the solver's history, its position.
        super().set_timesteps(len(self._levels), device=device)  # type: ignore[misc]
        self.sigmas = torch.tensor([*self._levels, 0.0], device=self.sigmas.device)
        self.timesteps = times_of(self, self._levels).to(device)


def times_of(scheduler: Any, sigmas: Sequence[float]) -> torch.Tensor:
    """What the network is told at each noise level, (N,) fp32."""
    if _kind(scheduler) == FLOW:
        return torch.tensor(sigmas) * float(scheduler.config.num_train_timesteps)
    # EDM's preconditioning: Karras et al. 2022, table 1, c_noise.
    return torch.tensor([0.25 * log(sigma) for sigma in sigmas])


def _kind(scheduler: Any) -> str | None:
    config = scheduler.config
    if type(scheduler).__name__.endswith("FlowMatchEulerDiscreteScheduler"):
        return FLOW
    if config.get("use_flow_sigmas"):
        return FLOW
    if config.get("timestep_type") == "continuous" and config.prediction_type == "v_prediction":
        return CONTINUOUS
    return None


def scheduler_for(table: DiffusersTable, shipped: Any) -> Any:
    """The scheduler that the profile asks for, with the checkpoint's configuration and its changes.

    Raises Unusable.
    """
    base = type(shipped) if table.scheduler is None else _scheduler_class(table.scheduler)
    changes = dict(table.scheduler_config)
    if unknown := sorted(set(changes) - set(_parameters(base))):
        raise Unusable(f"scheduler_config: {base.__name__} has no {unknown[0]!r}.")
    if table.sigmas is None:
        return base.from_config(shipped.config, **changes)
    if base.__name__ not in FIXABLE:
        raise Unusable(f"sigmas: {base.__name__} cannot take any; use one of {', '.join(FIXABLE)}.")
    # Shifts are switched off: the levels are final, and one of them needs an argument.
    plain = {"use_dynamic_shifting": False, "shift_terminal": None}
    changes = {name: value for name, value in plain.items() if name in _parameters(base)} | changes
    fixed: Any = type(f"Fixed{base.__name__}", (FixedSigmas, base), {})
    scheduler: Any = fixed.from_config(shipped.config, **changes)
    if _kind(scheduler) is None:
        raise Unusable(
            f"sigmas: {base.__name__} of this checkpoint has numbered steps; set"
            " use_flow_sigmas = true in scheduler_config, or omit sigmas."
        )
    scheduler.fix(table.sigmas)
    check_fixed(scheduler, table.sigmas)
    return scheduler


def _scheduler_class(name: str) -> Any:
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise Unusable(f"scheduler: diffusers {diffusers.__version__} has no {name}.")
    return found


def _parameters(scheduler_class: Any) -> Sequence[str]:
    return list(scheduler_class._get_init_keys(scheduler_class))


def check_fixed(scheduler: Any, published: Sequence[float]) -> None:
    """Ask for something else, and find the published levels. Raises Unusable."""
    scheduler.set_timesteps(len(published) + 1, device="cpu")
    levels = scheduler.sigmas.tolist()[:-1]
    if len(levels) != len(published) or max_difference(levels, published) > TOLERANCE:
        raise Unusable(f"{type(scheduler).__name__} makes {levels} of sigmas {list(published)}.")


def max_difference(some: Sequence[float], others: Sequence[float]) -> float:
    return max(abs(one - other) for one, other in zip(some, others, strict=True))


def check_seen(scheduler: Any, published: Sequence[float], seen: Sequence[torch.Tensor]) -> None:
    """Compare the times that the network was told with the published levels. Raises Unusable.

    `seen`: of each forward, in order; per token for some networks, whose largest counts: tokens of
    the picture are told 0. Guidance asks twice for each level.
    """
    told: list[float] = []
    for times in seen:
        time = times.float().max().item()
        if not told or time != told[-1]:
            told.append(time)
    dtype = seen[0].dtype if seen else torch.float32
    expected = times_of(scheduler, published).to(dtype).float().tolist()
    scale = max(abs(time) for time in expected)
    if len(told) != len(expected) or max_difference(told, expected) > TOLERANCE * scale:
        raise Unusable(
            f"The network was told the times {_rounded(told)}; the published sigmas are"
            f" {_rounded(expected)}."
        )


def _rounded(times: Sequence[float]) -> str:
    return ", ".join(f"{time:.4g}" for time in times)
