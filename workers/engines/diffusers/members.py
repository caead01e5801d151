"""The processes that render one clip together, one GPU each: what every member does.

Rank 0 leads: it is the worker's process, and the others are its children (leader.py, follower.py).
All of them run the same pipeline on the same order; only the networks are shared out (sequence.py,
guidance.py, frame_shards.py, row_shards.py). So they must start from the same bits, and stop at the
same step.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from app.domain.errors import RenderFailed


class Stopped(Exception):
    """The leader was asked to stop. In the other members; the leader raises what it was told."""


@dataclass
class Member:
    """A place in the group.

    passes: how many forwards are made at the same time, each by as many members, in order of rank.
    mesh: what the library's context parallelism wants, of the members that make one forward.
    """

    rank: int
    size: int
    device: torch.device
    passes: int = 1
    mesh: Any = field(default=None, init=False)

    @property
    def each(self) -> int:
        """Members that make one forward."""
        return self.size // self.passes

    def join(self, store: Any, timeout_s: float) -> None:
        """Meet the others. Blocks until all are there."""
        backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend,
            store=store,
            rank=self.rank,
            world_size=self.size,
            timeout=timedelta(seconds=timeout_s),
            device_id=self.device if self.device.type == "cuda" else None,
        )
        everybody = dist.DeviceMesh(
            self.device.type,
            torch.arange(self.size).reshape(self.passes, 1, self.each),
            mesh_dim_names=("passes", "ring", "ulysses"),
        )
        self.mesh = everybody["ring", "ulysses"]

    def leave(self) -> None:
        """Forget the others, dead or alive."""
        if dist.is_initialized():
            dist.destroy_process_group()
        self.mesh = None

    def agree_to_stop(self, wanted: bool) -> bool:
        """Whether the leader wants to stop; the others' wish does not count."""
        flag = torch.tensor([int(wanted)])
        dist.broadcast(flag, src=0)
        return bool(flag.item())

    def check_same(self, what: str, tensors: list[torch.Tensor]) -> None:
        """Every member has the same bits. Raises RenderFailed in all of them otherwise.

        Different seeds or pictures would give a clip in which everything looks fine but nothing
        fits together.
        """
        own = torch.frombuffer(bytearray(digest(tensors)), dtype=torch.int64)
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        if odd := [rank for rank, other in enumerate(found) if not torch.equal(other, found[0])]:
            raise RenderFailed(
                f"{what} differ between GPU 0 and GPU {odd[0]}.", code="group_failed"
            )


def gather(tensor: torch.Tensor, dim: int, counts: list[int], member: Member) -> torch.Tensor:
    """The parts of all members, in order. `counts` has their lengths along `dim`, equal or not."""
    parts = []
    for count in counts:
        shape = [*tensor.shape]
        shape[dim] = count
        parts.append(tensor.new_empty(shape))
    if len({*counts}) == 1:
        dist.all_gather(parts, tensor.contiguous())
    else:  # not every back end gathers parts of different sizes
        parts[member.rank] = tensor.contiguous()
        for rank, part in enumerate(parts):
            dist.broadcast(part, src=rank)
    return torch.cat(parts, dim)


def digest(tensors: list[torch.Tensor]) -> bytes:
    """SHA-256 of the tensors' bytes."""
    found = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().to("cpu").flatten().clone(memory_format=torch.contiguous_format)
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(plain.view(torch.uint8).numpy().tobytes())
    return found.digest()
