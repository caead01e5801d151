"""Guidance by two halves of a group: one makes the pass with the prompt, the other that without.

With two members each runs whole forwards, so what they compute is what one process would, bit for
bit where the pipeline asks twice (Wan). There more members can share out the tokens of each pass
(sequence.py). Where it asks once with a batch of two (SVD, LTX-Video), each gets half of the batch.
Ho & Salimans 2022, arXiv:2207.12598, equation 6.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from diffusers import (
    LTXConditionPipeline,
    LTXImageToVideoPipeline,
    StableVideoDiffusionPipeline,
    WanImageToVideoPipeline,
)

from workers.engines.diffusers.loading import denoisers
from workers.engines.diffusers.members import Member

PASSES = 2
ASKS_TWICE = (WanImageToVideoPipeline,)
ASKS_WITH_BATCH = (StableVideoDiffusionPipeline, LTXImageToVideoPipeline, LTXConditionPipeline)


def fits(pipe: Any) -> bool:
    """Whether both passes of a pipeline can be made at the same time."""
    return isinstance(pipe, ASKS_TWICE + ASKS_WITH_BATCH)


def shares_each(pipe: Any) -> bool:
    """Whether several members can make one pass together."""
    return isinstance(pipe, ASKS_TWICE)


class GuidanceShares:
    """The passes of a step. One for a pipeline."""

    def __init__(self, pipe: Any, member: Member):
        self._member = member
        self._first: torch.Tensor | None = None  # of a step's two passes, not known here yet
        share = self._one_of_two if isinstance(pipe, ASKS_TWICE) else self._half_of_batch
        for each in denoisers(pipe):
            network: Any = each
            network.forward = share(network.forward)

    def rejoin(self) -> None:
        """Begin anew: the group before may have ended between two passes."""
        self._first = None

    def _one_of_two(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A forward that the pipeline calls twice in each step.

        The first members make the first pass, and the others the second. They return from the other
        pass with a tensor that is filled when the second is asked for: nobody reads it before.
        """
        second_half = self._member.rank >= self._member.each

        def shared(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            first = self._first is None
            if first is not second_half:
                (made,) = forward(hidden_states, *args, **kwargs | {"return_dict": False})
            else:
                made = hidden_states.new_empty(0)
            if first:
                self._first = made
                return (made,)
            both, self._first = (self._first, made), None
            for number, tensor in enumerate(both):
                self._hand_over(tensor, number * self._member.each)
            return (made,)

        return shared

    def _hand_over(self, tensor: torch.Tensor, rank: int) -> None:
        """Fill a tensor in all that have nothing in it, from one of those that made it."""
        mine = rank == self._member.rank
        shape = torch.tensor([*tensor.shape] if mine else [0] * 5)
        dist.broadcast(shape, src=rank)
        whole = tensor.contiguous() if mine else tensor.new_empty(shape.tolist())
        dist.broadcast(whole, src=rank)
        if not mine:
            tensor.set_(whole)  # type: ignore[call-overload]

    def _half_of_batch(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A forward whose batch is both passes."""

        def shared(*args: Any, **kwargs: Any) -> Any:
            given = args[0] if args else kwargs["hidden_states"]
            batch = given.shape[0]

            def own(value: Any) -> Any:
                if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == batch:
                    return value.chunk(PASSES)[self._member.rank]
                return value

            named = {name: own(value) for name, value in kwargs.items()} | {"return_dict": False}
            (made,) = forward(*map(own, args), **named)
            found = [torch.empty_like(made) for _ in range(PASSES)]
            dist.all_gather(found, made.contiguous())
            return (torch.cat(found),)

        return shared
