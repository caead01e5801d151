"""Hears how a pipeline's call advances, and can stop it anywhere.

Most pipelines have callbacks, but not all, and one that is told to stop skips its steps and decodes
all the same. Every pipeline has a progress bar: ours counts, and raises what `on_step` raises.
Between steps (encoding a prompt, decoding, one step of a large network) each block that begins is a
beat.

In a group nobody may leave the others in the middle of a step: what `on_step` raises is held until
all have made it, and all stop together.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import torch

from workers.engines.base import OnStep
from workers.engines.diffusers.loading import denoisers
from workers.engines.diffusers.members import Member, Stopped


class Pulse:
    """Attached to one pipeline for its life. Used by one thread."""

    beat_s = 0.5  # beats are for a watchdog that waits for seconds

    def __init__(self, pipe: Any):
        self._on_step: OnStep | None = None
        self._steps_done = 0
        self._beaten_at = 0.0
        self._times: list[torch.Tensor] | None = None
        self._member: Member | None = None
        self._alone_after: int | None = None
        self._held: BaseException | None = None
        self._compared = False
        self.together = False  # the others wait for this member, or will
        pipe.progress_bar = self._progress_bar
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                for block in _blocks(part):
                    block.register_forward_pre_hook(self._block_begins)
        for network in denoisers(pipe):
            network.register_forward_pre_hook(self._network_asked, with_kwargs=True)

    @contextmanager
    def listening(
        self, on_step: OnStep, member: Member | None = None, alone_after: int | None = None
    ) -> Iterator[None]:
        """While the pipeline is called in this block, tell `on_step`.

        member: of a group that makes the clip. alone_after: the step after which the others have
        done their part; None: they have when `part_alone` is called.
        """
        self._on_step, self._steps_done, self._beaten_at = on_step, 0, 0.0
        self._member, self._alone_after = member, alone_after
        self._held, self._compared = None, False
        self.together = member is not None
        try:
            yield
        finally:
            self._on_step = self._member = self._held = None

    def part_alone(self) -> None:
        """The others have done their part. Raises what was held for their sake."""
        self._member, self.together = None, False
        if self._held is not None:
            held, self._held = self._held, None
            raise held

    @contextmanager
    def noting_times(self) -> Iterator[list[torch.Tensor]]:
        """Yield a list that gets the times that the networks are told, of each forward."""
        self._times = []
        try:
            yield self._times
        finally:
            self._times = None

    @property
    def steps_done(self) -> int:
        """Of the last call."""
        return self._steps_done

    def beat(self) -> None:
        """Something advances. Raises what `on_step` raises."""
        if self._on_step is not None and monotonic() - self._beaten_at >= self.beat_s:
            self._tell(None)

    def step(self) -> None:
        """A step is done, on the device too. Raises what `on_step` raises; Stopped in followers."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._steps_done += 1
        self._tell(self._steps_done)
        self._agree()
        if self._steps_done == self._alone_after:
            self.part_alone()

    def between(self) -> None:
        """A part of the decoding is done. Raises as `step` does."""
        self.beat()
        self._agree()

    def fail(self, error: BaseException) -> None:
        """Raise it, or let the group stop for it at the end of what it is doing."""
        if not self.together:
            raise error
        self._held = self._held or error

    def _agree(self) -> None:
        """Stop together, if the leader was told to."""
        if self._member is None:
            return
        if self._member.agree_to_stop(self._held is not None):
            held, self._held = self._held, None
            self._member, self.together = None, False
            raise held if held is not None else Stopped

    def _tell(self, step: int | None) -> None:
        if self._on_step is None or self._held is not None:
            return
        try:
            self._on_step(step)
        except BaseException as error:
            if not self.together:
                raise
            self._held = error
        self._beaten_at = monotonic()

    def _progress_bar(self, iterable: Iterable[Any] | None = None, total: int | None = None) -> Any:
        return _Bar(self.step, iterable)

    def _block_begins(self, _block: torch.nn.Module, _args: Any) -> None:
        if not torch.compiler.is_compiling():  # a graph cannot beat; the block around it does
            self.beat()

    def _network_asked(self, network: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._member is not None and not self._compared:
            self._compared = True
            given = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)]
            self._member.check_same("The latents", given)
        if self._times is None:
            return
        time = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        if time is not None:
            self._times.append(torch.as_tensor(time).detach().cpu())


class _Bar:
    """As much of a tqdm as pipelines use."""

    def __init__(self, step: Callable[[], None], iterable: Iterable[Any] | None):
        self._step = step
        self._iterable = iterable

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable or ():
            yield item
            self._step()

    def update(self, n: int = 1) -> None:
        for _ in range(n):
            self._step()

    def set_description(self, *_: Any, **__: Any) -> None: ...
    def set_postfix(self, *_: Any, **__: Any) -> None: ...
    def close(self) -> None: ...


def _blocks(part: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The blocks that a network is a row of, at whatever depth."""
    for module in part.modules():
        if isinstance(module, torch.nn.ModuleList):
            yield from module
