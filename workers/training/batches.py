"""Batches in time: several processes make them, ahead of the steps that need them."""

import signal
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from workers.training.scenes import Batch

AHEAD = 4  # batches that each process makes ahead


class _Steps(Dataset[Batch]):
    def __init__(self, make: Callable[[int], Batch]):
        self._make = make

    def __getitem__(self, step: int) -> Batch:
        return self._make(step)


def batches(
    make: Callable[[int], Batch], first: int, end: int, processes: int = 0
) -> Iterator[Batch]:
    """make(step) for the steps from `first` up to `end`, in order.

    `processes` is how many others make them, ahead; with 0 this one makes each when it is asked
    for. The batches are the same for any number.
    """
    steps = range(first, end)
    if not processes:
        yield from map(make, steps)
        return
    yield from DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=steps,
        num_workers=processes,
        prefetch_factor=AHEAD,
        worker_init_fn=_in_one_thread,
        multiprocessing_context="fork",  # photos and tokens are not copied
    )


def _in_one_thread(_process: int) -> None:
    torch.set_num_threads(1)
    # A signal is for the process that trains: it saves, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
