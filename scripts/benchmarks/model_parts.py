"""Parts of the model in isolation: how graphs start and run, and what shared context saves.

    python -m scripts.benchmarks.model_parts    # both tables

Every graph starts in a process of its own, with compiler caches off. Memory is the peak held by the
tensors of a call beyond its inputs and weights, counted in PyTorch's dispatcher.
"""

import json
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.models import UNetSpatioTemporalConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.benchmarks.timing import interleaved
from scripts.stack.data import ROOT
from workers.pipeline.animation import SHIPPED, Animation
from workers.pipeline.attention import SharedContextProcessor, share_context
from workers.pipeline.compile import KINDS
from workers.pipeline.loader import TEACHER, load_config, load_network

REPEATS = 5


def graph_table() -> str:
    """Cold start and one pass of each kind of graph, as a Markdown table."""
    lines = [
        "| graph | load, build, warm up, s | one pass, ms | off from eager, std |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        out = subprocess.run(
            [sys.executable, "-m", "scripts.benchmarks.model_parts", kind],
            stdout=subprocess.PIPE,
            check=True,
            cwd=ROOT,
            timeout=600,
            env=os.environ | {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"},
        ).stdout
        row = json.loads(out)
        name = kind if row["ran"] == kind else f"{kind} (fell back to {row['ran']})"
        lines.append(
            f"| {name} | {row['cold_s']:.1f} | {row['pass_ms']:.1f} | {row['error']:.4f} |"
        )
    return "\n".join(lines)


def start_graph(kind: str) -> dict[str, float | str]:
    """Load the shipped student with one kind of graph in this process, as a worker does."""
    started = time.perf_counter()
    animation = Animation.load(graph=kind)
    animation.warm_up()
    cold_s = time.perf_counter() - started
    example = animation.example()
    with torch.inference_mode():
        expected = animation.run.module(*example).float()
        error = (animation.run(*example).float() - expected).abs().max() / expected.std()
    seconds = interleaved({kind: lambda: animation.run(*example)}, 30)[kind]
    ran = animation.run.kind
    return {"cold_s": cold_s, "pass_ms": 1e3 * seconds, "error": error.item(), "ran": ran}


@dataclass(frozen=True)
class Layer:
    """One cross-attention of a public network, at its usual shapes."""

    name: str
    rows: int  # rows that share a context: frames, or positions for SVD over time
    queries: int  # per row
    channels: int
    heads: int
    tokens: int  # of the context
    context: int  # its width


LAYERS = [
    Layer("motion-small, 8 x 8", 8, 64, 64, 2, 17, 64),
    Layer("AnimateDiff, 64 x 64, 16 frames", 16, 4096, 320, 8, 77, 768),
    Layer("SVD over space, 72 x 128, 14 frames", 14, 9216, 320, 5, 1, 1024),
    Layer("SVD over time, 72 x 128, 14 frames", 9216, 14, 320, 5, 1, 1024),
]


def context_table() -> str:
    """Stock against shared context: time and memory per layer and per network, in fp32."""
    lines = [
        "| cross-attention | stock, ms | shared, ms | stock, MB | shared, MB | differ by |",
        "|---|---|---|---|---|---|",
    ]
    for layer in LAYERS:
        lines.append(_row(layer.name, *_layer_calls(layer)))
    for name, make in (("motion-small, one pass", _motion), ("SVD at half width, one pass", _svd)):
        lines.append(_row(f"**{name}**", *make()))
    return "\n".join(lines)


def _row(name: str, stock: Callable[[], Tensor], shared: Callable[[], Tensor]) -> str:
    times = interleaved({"stock": stock, "shared": shared}, REPEATS)
    with torch.inference_mode():
        before, after = Peak.of(stock), Peak.of(shared)
        error = (stock() - shared()).abs().max().item()
    stock_ms, shared_ms = 1e3 * times["stock"], 1e3 * times["shared"]
    return (
        f"| {name} | {stock_ms:.1f} | {shared_ms:.1f} "
        f"| {before / 1e6:.1f} | {after / 1e6:.1f} | {error:.1e} |"
    )


def _layer_calls(layer: Layer) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    attn = Attention(
        layer.channels,
        layer.context,
        heads=layer.heads,
        dim_head=layer.channels // layer.heads,
    ).eval()
    shared = SharedContextProcessor()
    x = torch.randn(layer.rows, layer.queries, layer.channels)
    context = torch.randn(1, layer.tokens, layer.context)
    return (
        _inference(lambda: attn(x, context.repeat_interleave(layer.rows, 0))),
        _inference(lambda: shared(attn, x, context)),
    )


def _motion() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    config = load_config(SHIPPED)
    networks = [load_network(SHIPPED, TEACHER, config, torch.float32, "cpu") for _ in range(2)]
    shared = Animation(networks[1], config, config.sampling[TEACHER])
    example = shared.example()
    stock = networks[0].one_pass(repeat=True).eval()
    return _inference(lambda: stock(*example)), lambda: shared.run(*example)


def _svd() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(160, 320, 640, 640), num_attention_heads=(5, 5, 10, 10)
    ).eval()
    twin = UNetSpatioTemporalConditionModel.from_config(unet.config).eval()
    twin.load_state_dict(unet.state_dict())
    share_context(twin)
    frames = 8
    inputs = (torch.randn(1, frames, 8, 32, 32), torch.tensor(500.0), torch.randn(1, 1, 1024))
    ids = torch.tensor([[6.0, 127.0, 0.02]])

    def call(network: nn.Module) -> Callable[[], Tensor]:
        return _inference(lambda: network(*inputs, added_time_ids=ids, return_dict=False)[0])

    return call(unet), call(twin)


def _inference(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return torch.inference_mode()(call)


class Peak(TorchDispatchMode):  # torch has no types there
    """Peak bytes held by tensors created under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.most: int = 0
        self._known: set[int] = set()

    @classmethod
    def of(cls, call: Callable[[], Tensor]) -> int:
        with cls() as peak:
            call()
        most: int = peak.most
        return most

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        old = {id_of(t) for t in torch.utils._pytree.tree_leaves((args, kwargs)) if is_tensor(t)}
        for tensor in torch.utils._pytree.tree_leaves(out):
            if is_tensor(tensor) and (key := id_of(tensor)) not in old | self._known:
                self._add(key, tensor.untyped_storage())
        return out

    def _add(self, key: int, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def is_tensor(x: object) -> bool:
    return isinstance(x, Tensor)


def id_of(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(start_graph(sys.argv[1])))
    else:
        print(graph_table(), context_table(), sep="\n\n")
