"""How many threads torch's operators use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run operators on the CPU in the calling thread alone.

    For many small ones: each would hand its parts to other threads, which cost more than they
    save, and wait for the next by spinning on cores that onnxruntime and the encoder need. On busy
    cores that took seven to thirteen times the processor time (decision 106).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
