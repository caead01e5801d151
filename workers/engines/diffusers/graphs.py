"""Compiled networks: the blocks that a network repeats become one graph, used by all of them."""

from typing import Any

import structlog
import torch

from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable

log = structlog.get_logger(__name__)


def apply(pipe: Any, table: DiffusersTable) -> None:
    """Compile what the profile says. Costs nothing yet: the first render at a size compiles.

    Raises Unusable for a part that the checkpoint has not.
    """
    for name, kind in table.graphs.items():
        network = getattr(pipe, name, None)
        if not isinstance(network, torch.nn.Module):
            raise Unusable(f"graphs: the checkpoint has no {name!r}.")
        if kind == "compile":
            for block in repeated_blocks(network):
                _compile(block)


def undo(pipe: Any) -> bool:
    """Make every network eager again; whether one was not."""
    found = [
        module
        for part in pipe.components.values()
        if isinstance(part, torch.nn.Module)
        for module in part.modules()
        if "forward" in vars(module) and hasattr(module.forward, "_torchdynamo_orig_callable")
    ]
    for module in found:
        del module.forward
    return bool(found)


def repeated_blocks(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks that the library says a network is a row of, or else the whole network."""
    names = getattr(network, "_repeated_blocks", None) or ()
    found = [module for module in network.modules() if type(module).__name__ in names]
    return found or [network]


def _compile(block: torch.nn.Module) -> None:
    # Not `block.compile()`: that would draw our hooks, the beats of the watchdog, into the graph.
    block.forward = torch.compile(block.forward, dynamic=False)
