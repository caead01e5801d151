"""VAEs by several processes: the same pixels but for rounding, stopped together."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from PIL import ImageOps

from app.config.settings import ConfigError
from app.domain.errors import Canceled, RenderFailed
from tests.unit.workers.diffusers.clips import frames_of, ignore
from tests.unit.workers.diffusers.groups import StopAt, as_floats, followers
from workers.engines.diffusers.leader import Leader
from workers.engines.diffusers.unusable import Unusable

pytestmark = pytest.mark.timeout(300)


def clip_of(engine, order, monkeypatch):
    """Frames before they become bytes: (T, 3, H, W)."""
    with as_floats(monkeypatch) as found:
        frames_of(engine, order)
    return torch.stack(found)


def relative(found, wanted):
    return (found - wanted).square().mean().sqrt() / wanted.std()


SHARED = [
    ("wan22", 2, "64x64"),
    ("wan21", 2, "64x64"),
    ("ltx", 2, "64x96"),  # three latent rows
    ("ltx-condition", 2, "64x96"),
    ("ltx2", 2, "64x160"),  # five, and the second is reflected at the edge
    ("wan22", 4, "64x48"),  # six
    ("wan22-ti2v", 4, "128x96"),
    ("ltx", 4, "128x160"),
    ("ltx2", 4, "128x288"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gpus", "size"), SHARED)
def test_a_vae_is_shared_out_by_rows(
    loaded, grouped, spec, picture, monkeypatch, record_property, name, gpus, size
):
    side = max(map(int, size.split("x")))
    sizes = {"sizes": [size], "default_size": side}
    single, toy = loaded(name, **sizes)
    engine = grouped(toy, gpus, "sharded", **sizes)
    for changes in ({}, {"loop": True}) if "loop" in toy.honours else ({},):
        order = single.prepare(spec(toy, size=side, **changes), picture)
        wanted = clip_of(single, order, monkeypatch)
        found = clip_of(engine, order, monkeypatch)
        record_property("max_abs", (found - wanted).abs().max().item())
        assert relative(found, wanted) <= 5e-5
        assert (found - wanted).abs().max() <= 1 / 255 / 100  # a hundredth of a level


@pytest.mark.slow
def test_a_group_with_a_shared_vae_stops_and_recovers(loaded, grouped, spec, picture, monkeypatch):
    single, toy = loaded("wan22-ti2v")
    order = single.prepare(spec(toy), picture)
    wanted = clip_of(single, order, monkeypatch)
    engine = grouped(toy, 2, "sharded", guidance="true")
    found = clip_of(engine, order, monkeypatch)
    assert relative(found, wanted) <= 5e-5
    first = followers(engine)

    # Canceled in a step, and while it decodes: that ends with a latent frame.
    engine._pulse.beat_s = 0.0
    for stop, frames in ((StopAt(1), 0), (StopAt(toy.steps, beat=True), 1)):
        with as_floats(monkeypatch) as made, pytest.raises(Canceled):
            engine.render(order, stop)
        assert len(made) == frames
        assert torch.equal(clip_of(engine, order, monkeypatch), found)

    # Numbers that are none, in the leader's rows only: the attempt fails, the group stays.
    bias = engine._pipe.vae.decoder.conv_out.bias
    kept = bias.detach().clone()
    bias.data.fill_(float("nan"))
    with pytest.raises(RenderFailed) as failed:
        engine.render(order, ignore)
    assert failed.value.code == "numerical_error"
    bias.data.copy_(kept)
    assert torch.equal(clip_of(engine, order, monkeypatch), found)
    assert followers(engine) == first, "it is still the same group"

    # A follower killed while it decodes.
    def kill(step):
        if step is None and engine._pulse.steps_done == toy.steps:
            os.kill(first[0], signal.SIGKILL)

    with pytest.raises(RenderFailed) as failed:
        engine.render(order, kill)
    assert failed.value.code == "group_failed" and failed.value.retryable
    assert torch.equal(clip_of(engine, order, monkeypatch), found)
    assert followers(engine) != first

    # Encoded by rows, two pictures would be a mixture, and the latents the same in all members.
    give = Leader.order
    other = replace(order, picture=ImageOps.invert(order.picture))
    monkeypatch.setattr(Leader, "order", lambda self, _order: give(self, other))
    with pytest.raises(RenderFailed, match=r"The pictures differ between GPU 0 and GPU 1"):
        engine.render(order, ignore)


def test_a_vae_that_adds_noise_is_not_shared_out(place, load, tmp_path):
    from diffusers import AutoencoderKLLTXVideo

    toy = place("ltx")
    vae = AutoencoderKLLTXVideo.from_pretrained(tmp_path / toy.name / "vae")
    noisy = {**vae.config, "decoder_inject_noise": (True, True, True, False, False)}
    AutoencoderKLLTXVideo.from_config(noisy).save_pretrained(tmp_path / toy.name / "vae")
    table = ("first_frame", 'parallel = { gpus = 2, vae = "sharded" }\nfirst_frame')
    with pytest.raises(Unusable, match="a VAE that adds noise between its layers"):
        load(toy, table=table, sizes=["64x64"])


def test_a_vae_that_is_shared_out_is_not_compiled(place, load):
    shared = 'parallel = { gpus = 2, vae = "sharded" }\ngraphs = { vae = "compile" }\nfirst_frame'
    with pytest.raises(ConfigError, match="a VAE that several GPUs share runs eagerly"):
        load(place("wan22"), table=("first_frame", shared))
