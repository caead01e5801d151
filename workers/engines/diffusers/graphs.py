"""Graphs: how a network runs, by component of the profile.

    eager        as the library runs it
    torchscript  traced in the warm-up; needs no compiler
    compile      by torch.compile in the warm-up; needs a compiler there
    aoti         packages that `models compile` has built; only they need one (packages.py)

Where the library says that a network is a row of equal blocks, the blocks are the graphs, otherwise
the network is. TorchScript and packages serve only the shapes of the warm-up, and are compared with
the network first. Whatever is wrong with a graph, the network runs without it.
"""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import torch

from stillmotion.errors import StillmotionError
from workers.engines.diffusers.flat_calls import (
    FlatCall,
    Key,
    Mismatch,
    NotFlat,
    as_tuple,
    flatten,
    shapes_of,
)
from workers.engines.diffusers.packages import Packages, open_packages
from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable

log = structlog.get_logger(__name__)

Run = Callable[[list[torch.Tensor]], Any]  # returns tensors
Make = Callable[[torch.nn.Module, Callable[..., Any], Key, list[torch.Tensor]], Run]

# Calls that are compared before a graph is used: values that became constants are seen in the next.
COMPARED = 2
# How far a graph may be from the block, in standard deviations of the block's output; as for
# motion-small (workers/pipeline/compile.py).
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15, torch.float16: 0.02}


def apply(pipe: Any, table: DiffusersTable, packages: Path | None = None) -> "list[Graphs]":
    """Make the graphs of a profile; `packages` is where `models compile` puts its own.

    Costs little yet: the warm-up traces, compiles and loads. Raises Unusable for a part that the
    checkpoint does not have.
    """
    made = []
    opened: Packages | str | None = None
    networks = {name: component(pipe, name) for name in table.graphs}
    for name, kind in table.graphs.items():
        network = networks[name]
        if kind == "compile":
            for block in repeated_blocks(network):
                _compile(block)
        elif kind == "torchscript":
            made.append(Graphs(name, kind, network, _traced))
        elif kind == "aoti":
            if opened is None:
                opened = open_packages(packages, pipe, table)
            if isinstance(opened, str):
                refuse(name, kind, opened)
            else:
                made.append(Graphs(name, kind, network, opened.maker(name)))
    return made


def component(pipe: Any, name: str) -> torch.nn.Module:
    """A part of the pipeline that is a network. Raises Unusable."""
    network = getattr(pipe, name, None)
    if not isinstance(network, torch.nn.Module):
        raise Unusable(f"graphs: the checkpoint has no {name!r}.")
    return network


def refuse(component: str, kind: str, reason: str) -> None:
    """Say in the log that a part runs without its graph."""
    log.warning("model_graph_refused", component=component, kind=kind, reason=reason)


class Graphs:
    """The graphs of one component. Used by one thread."""

    def __init__(self, name: str, kind: str, network: torch.nn.Module, make: Make):
        self.make = make
        self.refused = False  # all of them, for good
        self.sealed = False  # no others are made
        self._name, self._kind = name, kind
        self._told: set[str] = set()
        self._blocks = [GraphedBlock(self, block) for block in repeated_blocks(network)]

    def seal(self) -> None:
        """The warm-up is over: other shapes run without a graph from now on.

        Otherwise a seed would give another clip the first time that a shape is rendered.
        """
        self.sealed = True
        if not self.refused and not any(block.called for block in self._blocks):
            self.refuse("the pipeline never calls it")

    def refuse(self, reason: str) -> None:
        """Use no graph of this component again."""
        self.refused = True
        self.tell(reason)

    def tell(self, reason: str) -> None:
        """One line in the log for each reason."""
        if reason not in self._told:
            self._told.add(reason)
            refuse(self._name, self._kind, reason)

    @property
    def used(self) -> int:
        """How many graphs have been compared and are in use, over all blocks and shapes."""
        return 0 if self.refused else sum(block.used for block in self._blocks)


class GraphedBlock:
    """Stands in for a block's `forward`: a graph where there is one for the call."""

    def __init__(self, owner: Graphs, block: torch.nn.Module):
        self._owner = owner
        self._block = block
        self._eager = block.forward
        self._graphs: dict[Key, Run | None] = {}
        self._compared: dict[Key, int] = {}
        self._alone: dict[Key, bool] = {}  # whether the result is a tensor, not a tuple of some
        block.forward = self

    @property
    def called(self) -> bool:
        return bool(self._graphs)

    @property
    def used(self) -> int:
        return sum(run is not None for run in self._graphs.values())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        owner = self._owner
        if owner.refused:
            return self._eager(*args, **kwargs)
        try:
            tensors, key = flatten(args, kwargs)
        except NotFlat as error:
            owner.refuse(f"an argument is of type {error}")
            return self._eager(*args, **kwargs)
        if key not in self._graphs:
            if owner.sealed:
                owner.tell(f"not warmed up for {shapes_of(tensors)}")
                return self._eager(*args, **kwargs)
            self._graphs[key] = self._made(key, tensors)
        run = self._graphs[key]
        if run is None:
            return self._eager(*args, **kwargs)
        if self._compared.get(key, 0) >= COMPARED or (owner.sealed and key in self._compared):
            found = run(tensors)
            return found[0] if self._alone[key] else tuple(found)
        result = self._eager(*args, **kwargs)
        self._compare(key, run, tensors, result)
        return result

    def _made(self, key: Key, tensors: list[torch.Tensor]) -> Run | None:
        try:
            return self._owner.make(self._block, self._eager, key, tensors)
        except StillmotionError:
            raise
        except Mismatch as error:
            self._owner.tell(str(error))
        except Exception as error:  # tracers and loaders raise anything
            self._owner.refuse(in_one_line(error))
        return None

    def _compare(self, key: Key, run: Run, tensors: list[torch.Tensor], result: Any) -> None:
        try:
            wanted = as_tuple(result)
            check_close(run(tensors), wanted)
        except (NotFlat, Mismatch) as error:
            self._owner.refuse(str(error))
        except Exception as error:  # a package may raise anything
            self._owner.refuse(in_one_line(error))
        else:
            self._alone[key] = not isinstance(result, tuple)
            self._compared[key] = self._compared.get(key, 0) + 1


def check_close(found: Any, wanted: tuple[torch.Tensor, ...]) -> None:
    """Raises Mismatch for tensors that differ by more than rounding."""
    if [_kind(each) for each in found] != [_kind(each) for each in wanted]:
        raise Mismatch("the graph returns other shapes or types")
    for one, other in zip(found, wanted, strict=True):
        expected, got = other.detach().double(), one.detach().double()
        scale = expected.std(correction=0).item() or 1.0
        off = (got - expected).abs().max().item() / (scale if math.isfinite(scale) else 1.0)
        most = TOLERANCE.get(other.dtype, 1e-4)
        if not off <= most:  # fails on NaN, too
            raise Mismatch(f"the graph is off by {off:.2g} standard deviations, {most:g} allowed")


def _kind(tensor: torch.Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def in_one_line(error: BaseException) -> str:
    """The first line of an error's text; compilers append pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def _traced(
    block: torch.nn.Module, forward: Callable[..., Any], key: Key, tensors: list[torch.Tensor]
) -> Run:
    """The block as TorchScript. It keeps the block's own weights, so it is not frozen."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it is deprecated, and shapes become constants
        graph = torch.jit.trace(FlatCall(block, forward, key), tuple(tensors), check_trace=False)
    return lambda given: graph(*given)


def undo(pipe: Any) -> bool:
    """Make every network that torch.compile runs eager again; whether one was not."""
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
