"""Whether a model fits, asked before minutes of loading."""

from contextlib import suppress
from pathlib import Path

import torch

from workers.engines.diffusers.unusable import Unusable

GIB = 1 << 30
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


def available_bytes(device: torch.device) -> int:
    """Free memory of a GPU; of the CPU, what the machine and this container have left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    left = []
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            left.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        left.append(int(CGROUP_LIMIT.read_text()) - int(CGROUP_USED.read_text()))
    return min(left)


def check_fits(
    weights: dict[str, int], activations_gib: float, device: torch.device, *, offload: bool
) -> None:
    """Raises Unusable if weights and one clip need more than is free.

    `weights`: bytes of each part. With `offload` only the largest part is on the device.
    """
    resident = max(weights.values()) if offload else sum(weights.values())
    needed = resident + activations_gib * GIB
    free = available_bytes(device)
    if needed > free:
        largest = max(weights, key=lambda name: weights[name])
        hint = "" if offload else "; offload = true keeps only the part that works on the GPU"
        raise Unusable(
            f"Needs {needed / GIB:.1f} GiB on {device.type}, {resident / GIB:.1f} of it for weights"
            f" ({largest}: {weights[largest] / GIB:.1f}), but {free / GIB:.1f} are free{hint}."
        )
