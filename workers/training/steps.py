"""Steps of an optimisation. A GPU records each kind of step once, and then replays it.

A step here is thousands of kernels, most of them tiny. Starting them one by one from Python takes
ten times as long as running them.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.training.scenes import Batch

# loss_of(batch, kind, draw): a loss and its parts. What it does may depend on the kind, but not on
# values of tensors; its randomness comes from `draw` alone.
LossOf = Callable[[Batch, Hashable, torch.Generator], tuple[Tensor, dict[str, Tensor]]]
BEFORE_RECORDING = 3  # steps of a kind that run as they are: kernels are chosen and loaded


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    out: tuple[Tensor, Tensor, dict[str, Tensor]]


class Steps:
    """steps(batch, kind, rate, seed) -> loss, norm of the gradients, parts of the loss."""

    def __init__(self, network: LayeredDenoiser, loss_of: LossOf, grad_clip: float):
        self.place = next(network.parameters()).device
        self.on_gpu = self.place.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            network.parameters(), weight_decay=0.01, fused=self.on_gpu, capturable=self.on_gpu
        )
        self._network = network
        self._loss_of = loss_of
        self._grad_clip = grad_clip
        self._draw = torch.Generator(self.place)
        self._seen: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, _Recording] = {}
        self._aside = torch.cuda.Stream() if self.on_gpu else None

    def __call__(
        self, batch: Batch, kind: Hashable, rate: float, seed: int
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        for group in self.optimizer.param_groups:
            if not self.on_gpu:
                group["lr"] = rate
            elif isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = torch.tensor(rate, device=self.place)
        self._draw.manual_seed(seed)
        batch = batch.to(self.place)
        if self._aside is None:
            return self._step(batch, kind)
        if kind not in self._recorded:
            self._seen[kind] = self._seen.get(kind, 0) + 1
            if self._seen[kind] <= BEFORE_RECORDING:
                self._aside.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self._aside):
                    out = self._step(batch, kind)
                torch.cuda.current_stream().wait_stream(self._aside)
                return out
            self._recorded[kind] = self._record(batch, kind)
        recorded = self._recorded[kind]
        for field in fields(batch):
            getattr(recorded.batch, field.name).copy_(getattr(batch, field.name))
        recorded.graph.replay()
        loss, norm, parts = recorded.out
        return loss.clone(), norm.clone(), {name: part.clone() for name, part in parts.items()}

    def _record(self, batch: Batch, kind: Hashable) -> _Recording:
        own = Batch(*(getattr(batch, field.name).clone() for field in fields(batch)))
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._draw)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            out = self._step(own, kind)
        return _Recording(graph, own, out)

    def _step(self, batch: Batch, kind: Hashable) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        loss, parts = self._loss_of(batch, kind, self._draw)
        loss.backward()
        norm = clip_grad_norm_(self._network.parameters(), self._grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm, parts
