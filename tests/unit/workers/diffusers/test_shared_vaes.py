"""VAEs by several processes: the same pixels but for rounding, stopped together."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.domain.errors import Canceled, RenderFailed
from tests.unit.workers.diffusers.groups import StopAt, as_floats, followers, frames_of, ignore
from workers.engines.diffusers.leader import Leader
from workers.engines.diffusers.unusable import Unusable

pytestmark = pytest.mark.timeout(300)


def clip_of(engine, order, monkeypatch):
    """Frames before they become bytes: (T, 3, H, W)."""
    with as_floats(monkeypatch) as found:
        frames_of(engine, order)
    return torch.stack(found)


SHARED = [
    ("wan22", 2, "64x64"),
    ("wan22-ti2v", 2, "64x64"),
    ("wan21", 2, "64x64"),
    ("ltx", 2, "64x96"),  # three latent rows
    ("ltx-condition", 2, "64x96"),
    ("ltx2", 2, "64x160"),  # five, and the second is reflected at the edge
    ("wan22", 4, "64x48"),  # six
    ("wan22-ti2v", 4, "64x96"),
    ("ltx", 4, "64x160"),
    ("ltx2", 4, "64x288"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gpus", "size"), SHARED)
def test_a_vae_is_shared_out_by_rows(alone, grouped, spec, picture, monkeypatch, name, gpus, size):
    side = max(map(int, size.split("x")))
    sizes = {"sizes": [size], "default_size": side}
    single, toy = alone(name, **sizes)
    order = single.prepare(spec(toy, size=side), picture)
    wanted = clip_of(single, order, monkeypatch)
    engine = grouped(toy, gpus, "sharded", **sizes)
    found = clip_of(engine, order, monkeypatch)
    off = wanted - found
    print(
        name,
        gpus,
        size,
        "max",
        off.abs().max().item(),
        "rel",
        (off.square().mean().sqrt() / wanted.std()).item(),
    )
    assert off.square().mean().sqrt() / wanted.std() <= 5e-5
