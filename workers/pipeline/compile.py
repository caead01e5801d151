"""Graphs: a network run eagerly, as frozen TorchScript, or through torch.compile.

    graph = build_graph(network, "torchscript", example)  # at start-up
    v = graph(*inputs)  # in any thread

A setting chooses. TorchScript is the default, because it is fast and needs no compiler: the same
arithmetic without Python between the operators, and with self-attention's three projections in one.
torch.compile also fuses operators, but it needs a C++ compiler (CPU) or Triton (GPU), and start-up
takes many times longer. It is meant for workers that run for long on one GPU.
torch.jit.optimize_for_inference is not used: in bf16 it is not exact.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from workers.pipeline.attention import fuse_qkv

log = logging.getLogger(__name__)

KINDS = ("eager", "torchscript", "compile")
# How far a graph may be from the network, in standard deviations of the network's output. bf16 has
# 8 bits; a compiler that keeps more between two operators differs by several roundings.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15, torch.float16: 0.02}


class Graph:
    """A graph for one set of shapes and dtypes. Other inputs run through the network itself.

    Always runs in inference mode: grad mode belongs to the thread, and torch.compile would build
    again in a thread with another mode. Calls need no lock: nothing changes after the build.
    """

    def __init__(self, module: nn.Module, kind: str, example: tuple[Tensor, ...]):
        self.module = module
        self.kind = "eager"  # that runs; after a failed build not the requested one
        self.build_s = 0.0
        self._layout = _layout(example)
        self._run: Callable[..., Tensor] = module
        if kind == "eager":
            return
        started = time.monotonic()
        try:
            run = {"torchscript": _frozen, "compile": _compiled}[kind](module, example)
            _compare(run, module, example)
        # Whatever makes a compiler fail, the network itself still works.
        except Exception as error:
            log.warning("graph_not_used kind=%s error=%s", kind, _in_one_line(error))
            return
        self._run, self.kind = run, kind
        self.build_s = time.monotonic() - started

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """What module(*inputs) returns."""
        run = self._run if _layout(inputs) == self._layout else self.module
        return run(*inputs)


def build_graph(module: nn.Module, kind: str, example: tuple[Tensor, ...]) -> Graph:
    """Build a graph of `module`, which takes tensors like `example` and returns one tensor.

    Runs the graph and compares it to the module before it returns. The module must be in evaluation
    mode and must not change afterwards. `kind` is one of KINDS. If the graph cannot be built, or
    computes something else, this logs one line and the module itself runs.

    Raises ValueError for an unknown kind or a module in training mode, and whatever the module
    raises for `example`.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of graph {kind!r}; known: {', '.join(KINDS)}")
    if module.training:
        raise ValueError("a graph needs a module in evaluation mode: call .eval() first")
    graph = Graph(module, kind, example)
    if graph.kind == "eager":
        with torch.inference_mode():
            module(*example)  # the module's own errors must not look like the compiler's
    return graph


def _layout(inputs: tuple[Tensor, ...]) -> tuple[tuple[torch.Size, torch.dtype, torch.device], ...]:
    return tuple((x.shape, x.dtype, x.device) for x in inputs)


@torch.inference_mode()
def _frozen(module: nn.Module, example: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    # Its passes gain nothing on a CPU, and take two slow runs first (decision 98).
    optimised = example[0].device.type != "cpu"

    def run(*inputs: Tensor) -> Tensor:
        with torch.jit.optimized_execution(optimised):  # which belongs to the thread
            out: Tensor = graph(*inputs)
        return out

    # TorchScript warns at every call that it is deprecated. Tracing warns that shapes become
    # constants, which is intended: other shapes never reach the graph.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = fuse_qkv(module).requires_grad_(False)
        # Of a function, weights become constants at once. Of a module, a copy of the whole tree is
        # made first and then frozen, which takes longer than all the rest.
        graph: Callable[..., Tensor] = torch.jit.trace(
            lambda *inputs: fused(*inputs), example, check_trace=False
        )
        if optimised:
            # The first run records shapes, the second optimises for them.
            for _ in range(2):
                run(*example)
    return run


def _compiled(module: nn.Module, example: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    compiled = torch.compile(module, dynamic=False)

    def run(*inputs: Tensor) -> Tensor:
        # Compiled code depends on strides, even of expanded dimensions and those of size 1, and on
        # whether a tensor was made in inference mode. A small copy makes all inputs alike.
        copies = (x.clone(memory_format=torch.contiguous_format) for x in inputs)
        out: Tensor = compiled(*copies)
        return out

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        run(*example)
    return run


@torch.inference_mode()
def _compare(run: Callable[..., Tensor], module: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Raise ArithmeticError if a graph does not compute what its module does.

    Uses the example reversed: the same and therefore valid values, at other places. This exposes a
    branch that only the example takes, and values that became constants.
    """
    reversed_example = tuple(x.flip(tuple(range(x.ndim))) for x in example)
    expected, got = module(*reversed_example), run(*reversed_example)
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ArithmeticError(f"it returns {got.dtype} {tuple(got.shape)}")
    expected, got = expected.double(), got.double()
    # The output of an untrained layer may be constant; the error is then absolute.
    scale = expected.std().item() or 1.0
    error = (got - expected).abs().masked_fill(got.isnan() & expected.isnan(), 0).max().item()
    error /= scale if math.isfinite(scale) else 1.0
    limit = TOLERANCE.get(module_dtype(module), 1e-4)
    if not error <= limit:  # fails on NaN where the module has a number, too
        raise ArithmeticError(f"it is off by {error:.2g} standard deviations, {limit:.2g} allowed")


def module_dtype(module: nn.Module) -> torch.dtype:
    """The dtype of a module's floating-point weights."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _in_one_line(error: Exception) -> str:
    """The first line of an error's text; compilers append pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
