"""Several processes for one clip: the same bits, stopped together, and nobody left behind.

Gloo on the CPU; what is told apart is only the device.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.config import profiles_file
from app.domain.errors import Canceled, RenderFailed
from tests.support import services
from tests.unit.workers.diffusers.clips import frames_of, ignore
from tests.unit.workers.diffusers.conftest import SETTINGS
from tests.unit.workers.diffusers.groups import StopAt, as_floats, followers
from workers.engines.diffusers.leader import Leader
from workers.engines.registry import load_engine

pytestmark = pytest.mark.timeout(300)


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture(scope="module")
def pair(checkpoints, tmp_path_factory):
    """A toy of Wan in one process, in a group of two, and the toy: one group for several tests."""
    from tests.support.toys import TOYS

    toy, folder = TOYS["wan22"], tmp_path_factory.mktemp("pair")
    shutil.copytree(checkpoints(toy.name), folder / toy.name)
    table = ("first_frame", "parallel = { gpus = 2 }\nfirst_frame")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        group = load_engine(profiles_file.read(toy.profile(folder, table=table)), SETTINGS)
        single = load_engine(profiles_file.read(toy.profile(folder)), SETTINGS)
        yield single, group, toy
        group._leader.stop(patience_s=0.0)


def test_a_group_makes_the_same_clip_and_stops(pair, spec, picture):
    single, engine, toy = pair
    order = single.prepare(spec(toy), picture)
    wanted = frames_of(single, order)
    told = []
    assert np.array_equal(frames_of(engine, order, told.append), wanted)
    assert [step for step in told if step] == [1, 2, 3, 4]
    first = followers(engine)
    for stop in (StopAt(1), StopAt(2, beat=True), StopAt(4), StopAt(4, beat=True)):
        engine._pulse.beat_s = 0.0
        with pytest.raises(Canceled):
            engine.render(order, stop)
        engine._pulse.beat_s = 0.5
        steps = [step for step in stop.told if step]
        assert steps[-1] == stop.at, "a step is finished, and no other begins"
        assert np.array_equal(frames_of(engine, order), wanted)
    assert followers(engine) == first, "it is still the same group"


# Breaks the group of those before it.
def test_members_with_other_orders_are_noticed(pair, spec, picture, monkeypatch):
    _, engine, toy = pair
    order = engine.prepare(spec(toy), picture)
    give = Leader.order
    monkeypatch.setattr(
        Leader, "order", lambda self, o: give(self, replace(o, spec=replace(o.spec, seed=7)))
    )
    with pytest.raises(RenderFailed, match=r"The latents differ between GPU 0 and GPU 1"):
        engine.render(order, ignore)


@pytest.mark.slow
def test_a_group_recovers_from_a_killed_follower(loaded, grouped, spec, picture):
    single, toy = loaded("wan22")
    order = single.prepare(spec(toy), picture)
    wanted = frames_of(single, order)
    engine = grouped(toy, 2)
    assert np.array_equal(frames_of(engine, order), wanted)
    (first,) = followers(engine)

    def kill(step):
        if step == 2:
            os.kill(first, signal.SIGKILL)

    with pytest.raises(RenderFailed) as failed:
        engine.render(order, kill)
    assert failed.value.code == "group_failed" and failed.value.retryable
    assert not is_running(first)
    assert np.array_equal(frames_of(engine, order), wanted)
    (second,) = followers(engine)
    assert second != first
    engine._leader.stop()
    assert not is_running(second)


ULYSSES = [
    (name, gpus)
    for name in ("wan22", "wan22-ti2v", "wan21", "ltx", "ltx-condition", "ltx2")
    for gpus in (2, 4)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gpus"), ULYSSES)
def test_tokens_are_shared_out_with_the_same_bits(loaded, grouped, spec, picture, name, gpus):
    # With a few tokens for each, matrix products would take other ways than for all of them.
    side = 128 * gpus // 2
    sizes = {"sizes": [f"{side}x{side}"], "default_size": side}
    single, toy = loaded(name, **sizes)
    engine = grouped(toy, gpus, **sizes)
    for changes in ({}, {"loop": True}) if "loop" in toy.honours else ({},):
        order = single.prepare(spec(toy, size=side, **changes), picture)
        assert np.array_equal(frames_of(engine, order), frames_of(single, order))


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "vae"), [(2, "sharded"), (4, "sharded"), (2, "leader")])
def test_svd_is_shared_out_by_frames(loaded, grouped, spec, picture, monkeypatch, gpus, vae):
    chunk = "decode_chunk_size = 8"
    whole = chunk.replace("8", "9")  # a shared VAE decodes in one go
    single, toy = loaded("svd", table=(chunk, whole if vae == "sharded" else chunk))
    order = single.prepare(spec(toy), picture)  # 9 frames: uneven for 2 and for 4
    with as_floats(monkeypatch) as wanted:
        frames_of(single, order)
    engine = grouped(toy, gpus, vae, drop=chunk if vae == "sharded" else "")
    with as_floats(monkeypatch) as found:
        frames_of(engine, order)
    wanted, found = torch.stack(wanted), torch.stack(found)
    off = wanted - found
    assert off.square().mean().sqrt() / wanted.std() <= 5e-5
    assert off.abs().max() <= 1 / 255 / 100  # a hundredth of a level
    with pytest.raises(Canceled):
        engine.render(order, StopAt(1))
    with as_floats(monkeypatch) as again:
        frames_of(engine, order)
    assert torch.equal(torch.stack(again), found)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gpus"), [("wan22-ti2v", 2), ("wan22-ti2v", 4), ("svd", 2)])
def test_both_passes_of_guidance_are_made_at_once(
    loaded, grouped, spec, picture, monkeypatch, name, gpus
):
    """By two halves of the group; with four processes, two share out the tokens of a pass."""
    single, toy = loaded(name)
    order = single.prepare(spec(toy), picture)
    with as_floats(monkeypatch) as wanted:
        frames_of(single, order)
    engine = grouped(toy, gpus, guidance="true")
    forwards = []
    network = getattr(engine._pipe, "unet", None) or engine._pipe.transformer
    block = network.mid_block if name == "svd" else network.blocks[0]
    block.register_forward_hook(lambda _block, _args, made: forwards.append(len(made)))
    with as_floats(monkeypatch) as found:
        frames_of(engine, order)
    wanted, found = torch.stack(wanted), torch.stack(found)
    if name == "svd":  # half the batch: other matrix products
        assert (wanted - found).square().mean().sqrt() / wanted.std() <= 5e-5
    else:
        assert torch.equal(wanted, found)
    share = order.spec.frames if name == "svd" else 1
    assert forwards == [share] * toy.steps, "one of the two passes of each step"
    with pytest.raises(Canceled):
        engine.render(order, StopAt(1))
    with as_floats(monkeypatch) as again:
        frames_of(engine, order)
    assert torch.equal(torch.stack(again), found)


LEADING = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from app.config import profiles_file
from workers.engines.registry import load_engine
settings = SimpleNamespace(steps_of=lambda profile: profile.steps)
engine = load_engine(profiles_file.read(Path(sys.argv[1])), settings)
engine = getattr(engine, "phases", engine)
engine._leader.meet(lambda: None)
print("FOLLOWERS", *(each.pid for each in engine._leader._followers), flush=True)
time.sleep(100)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_follower_outlives_its_leader(place, tmp_path, number):
    toy = place("wan22")
    table = ("first_frame", "parallel = { gpus = 2 }\nfirst_frame")
    profile = toy.profile(tmp_path, table=table)
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADING, str(profile)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=services.ROOT,
    )
    line = next(line for line in leader.stdout if line.startswith("FOLLOWERS"))
    (follower,) = map(int, line.split()[1:])
    assert is_running(follower)
    leader.send_signal(number)
    leader.wait(10)
    deadline = time.monotonic() + 10
    while is_running(follower):
        assert time.monotonic() < deadline
        time.sleep(0.05)
