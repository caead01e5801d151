"""Graphs: a network as it is, as frozen TorchScript, or through torch.compile.

    graph = build_graph(network, "torchscript", example)  # at start-up
    v = graph(*inputs)  # in any thread

Which one is a setting. TorchScript is the default where speed matters and nothing may be assumed:
it needs no compiler, and it is the same arithmetic without Python between the operators, with the
three projections of self-attention in one.
torch.compile also fuses operators, but wants a C++ compiler (CPU) or Triton (GPU) on the machine
and a start-up that is many times longer: meant for workers that live long on one GPU.
torch.jit.optimize_for_inference is left out: in bf16 it is not exact.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from workers.pipeline.attention import joined

log = logging.getLogger(__name__)

KINDS = ("eager", "torchscript", "compile")
# How far a graph may be from the network, in standard deviations of the network's output. bf16 has
# 8 bits; a compiler that keeps more of them between two operators differs by several roundings.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15, torch.float16: 0.02}


class Graph:
    """A network built for one set of shapes and dtypes; others run through the network itself.

    Always runs in inference mode, so that a graph that was built in one thread is not built again
    in another (grad mode belongs to the thread). One call at a time needs no lock; so do several,
    as nothing here changes after the build.
    """

    def __init__(self, module: nn.Module, kind: str, example: tuple[Tensor, ...]):
        self.module = module
        self.kind = "eager"  # what runs, which after a failure is not what was asked for
        self.build_s = 0.0
        self._layout = _layout(example)
        self._run: Callable[..., Tensor] = module
        if kind == "eager":
            return
        started = time.monotonic()
        try:
            run = {"torchscript": _frozen, "compile": _compiled}[kind](module, example)
            _compare(run, module, example)
        # Whatever a compiler stumbles over, the network itself still works.
        except Exception as error:
            log.warning("no %s graph, running eagerly: %s", kind, _in_one_line(error))
            return
        self._run, self.kind = run, kind
        self.build_s = time.monotonic() - started

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """What module(*inputs) returns."""
        run = self._run if _layout(inputs) == self._layout else self.module
        return run(*inputs)


def build_graph(module: nn.Module, kind: str, example: tuple[Tensor, ...]) -> Graph:
    """Build a graph of `module`, which takes the tensors of `example` and returns one tensor.

    Returns after the graph has been run and compared to the module; the module must be in
    evaluation mode and must not change afterwards. `kind` is one of KINDS. Where the graph cannot
    be built, or computes something else, one line is logged and the module itself is run.

    Raises ValueError for an unknown kind or a module in training mode, and what the module raises
    when it is called with `example`.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of graph {kind!r}; known: {', '.join(KINDS)}")
    if module.training:
        raise ValueError("a graph is built of a module in evaluation mode: call .eval() first")
    with torch.inference_mode():
        module(*example)  # an error of the module's own must not look like one of the compiler's
    return Graph(module, kind, example)


def _layout(inputs: tuple[Tensor, ...]) -> tuple[tuple[torch.Size, torch.dtype, torch.device], ...]:
    return tuple((x.shape, x.dtype, x.device) for x in inputs)


@torch.inference_mode()
def _frozen(module: nn.Module, example: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    # TorchScript is deprecated and says so at every call; tracing warns of each shape that it
    # takes for a constant, which is meant: other shapes never reach the graph.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(joined(module), example, check_trace=False)
        graph = torch.jit.freeze(traced)
        # The first run records shapes, the second optimises for them.
        for _ in range(2):
            graph(*example)
    return graph


def _compiled(module: nn.Module, example: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    compiled = torch.compile(module, dynamic=False)

    def run(*inputs: Tensor) -> Tensor:
        # Compiled code is bound to strides, even those of dimensions of size 1 and of expanded
        # tensors, and to whether a tensor was made in inference mode. One small copy settles all.
        return compiled(*(x.clone(memory_format=torch.contiguous_format) for x in inputs))

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        run(*example)
    return run


@torch.inference_mode()
def _compare(run: Callable[..., Tensor], module: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Raise ArithmeticError if a graph does not compute what its module does.

    Asked with the example turned round: the same values, so valid ones, at other places. A branch
    that was taken for the example alone, or a value that became a constant, shows here.
    """
    turned = tuple(x.flip(tuple(range(x.ndim))) for x in example)
    expected, got = module(*turned), run(*turned)
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ArithmeticError(f"it returns {got.dtype} {tuple(got.shape)}")
    expected, got = expected.double(), got.double()
    # An untrained output layer may be constant; then the error is absolute.
    scale = expected.std().item() or 1.0
    error = (got - expected).abs().masked_fill(got.isnan() & expected.isnan(), 0).max().item()
    error /= scale if math.isfinite(scale) else 1.0
    limit = TOLERANCE.get(module_dtype(module), 1e-4)
    if not error <= limit:  # NaN where the module has a number must fail, too
        raise ArithmeticError(f"it is off by {error:.2g} standard deviations, {limit:.2g} allowed")


def module_dtype(module: nn.Module) -> torch.dtype:
    """The dtype of a module's floating-point weights."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _in_one_line(error: Exception) -> str:
    """The first line of an error's text; compilers add pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
