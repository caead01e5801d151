"""Every family through the real engine: equal to its stock pipeline, seeds, stopping, streaming."""

import inspect
import io

import av
import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from app.domain.errors import Canceled, Permanent, RenderFailed
from app.domain.job.clip_size import ClipSize
from app.domain.job.served_sizes import cropped_box
from tests.support.toys import TOYS
from tests.unit.workers.diffusers.clips import frames_of, ignore
from workers.engines.diffusers import decoding, engine
from workers.engines.diffusers.loading import pipeline_class

QUICK = ("wan22", "ltx")  # the others take the same ways
FAMILIES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in TOYS]


def stock_frames(folder, table, order, arguments):
    """What the library's own pipeline makes with the same noise levels."""
    pipe = pipeline_class(table.pipeline).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if table.sigmas is not None:
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        if "sigmas" in inspect.signature(type(pipe).__call__).parameters:
            arguments["sigmas"] = table.sigmas
        else:
            force_sigmas(pipe.scheduler, table.sigmas)
    made = pipe(**arguments, output_type="np").frames[0]
    return (np.asarray(made) * 255).round().astype(np.uint8)


def force_sigmas(scheduler, levels):
    """For pipelines that pass none, or others."""
    original = scheduler.set_timesteps

    def set_timesteps(steps=None, device=None, sigmas=None, mu=None, timesteps=None):
        original(sigmas=levels, device=device)

    scheduler.set_timesteps = set_timesteps


@pytest.mark.parametrize("name", FAMILIES)
def test_a_clip_is_the_stock_pipelines_bit_for_bit(loaded, tmp_path, spec, picture, name):
    engine, toy = loaded(name)
    order = engine.prepare(spec(toy), picture)
    told = []
    frames = frames_of(engine, order, told.append)
    steps = [step for step in told if step is not None]
    assert steps == list(range(1, toy.steps + 1))
    assert frames.shape == (9, 64, 64, 3) and frames.std() > 1
    given = engine._arguments(order)
    stock = stock_frames(tmp_path / name, engine._table, order, given)
    assert np.array_equal(frames, stock)


@pytest.mark.parametrize("name", FAMILIES)
def test_seeds_decide_alone_even_after_a_canceled_render(loaded, spec, picture, name):
    engine, toy = loaded(name)
    order = engine.prepare(spec(toy), picture)
    first = frames_of(engine, order)
    for stop_at in (1, toy.steps, None):
        after = []

        def stop(step, stop_at=stop_at, after=after):
            after.append(step)
            late = stop_at is None and toy.steps in after  # while decoding
            if step == stop_at or (late and step is None):
                raise Canceled("stop")

        engine._pulse.beat_s = 0.0  # every block is a beat: decoding a toy takes milliseconds
        with pytest.raises(Canceled):
            engine.render(order, stop)
        engine._pulse.beat_s = 0.5
        assert toy.steps + 1 not in after and (stop_at is None or after[-1] == stop_at)
        assert np.array_equal(frames_of(engine, order), first)
    other = engine.prepare(spec(toy, seed=2), picture)
    assert not np.array_equal(frames_of(engine, other), first)


def test_encoding_decoding_and_long_steps_beat(loaded, spec, picture):
    engine, toy = loaded("wan22")
    engine._pulse.beat_s = 0.0
    told = []
    frames_of(engine, engine.prepare(spec(toy), picture), told.append)
    first, last = told.index(1), told.index(toy.steps)
    assert told[:first].count(None) >= 3, "while the prompt and the picture are encoded"
    assert told[first:last].count(None) >= 2, "within a step"
    assert told[last:].count(None) >= 9, "while frames are decoded"


@pytest.mark.parametrize("name", ["wan22", "wan22-ti2v"])
def test_wan_is_decoded_a_latent_frame_at_a_time_with_the_same_bits(loaded, spec, picture, name):
    engine, toy = loaded(name)
    pipe, order = engine._pipe, engine.prepare(spec(toy, frames=13), picture)
    sizes = []
    decoder = pipe.vae.decoder.forward

    def watched(*args, **kwargs):
        out = decoder(*args, **kwargs)
        sizes.append(out.shape[2])
        return out

    pipe.vae.decoder.forward = watched
    with torch.no_grad():
        latents = pipe(**engine._arguments(order), output_type="latent").frames
        streamed = torch.stack(list(decoding.decode(pipe, latents)))
        assert sizes == [1, 4, 4, 4]
        del pipe.vae.decoder.forward
        whole = pipe(**engine._arguments(order), output_type="pt").frames[0]
    assert torch.equal(streamed, whole)


def test_the_class_is_the_profiles_whatever_the_index_says(place, load, tmp_path, spec, picture):
    """Published folders may name the class that makes clips of text."""
    toy = place("wan22-ti2v")
    engine = load(toy)
    frames = frames_of(engine, engine.prepare(spec(toy), picture))
    index = tmp_path / toy.name / "model_index.json"
    index.write_text(index.read_text().replace("WanImageToVideoPipeline", "WanPipeline"))
    assert "WanPipeline" in index.read_text()
    again = load(toy)
    assert np.array_equal(frames_of(again, again.prepare(spec(toy), picture)), frames)


def test_a_picture_is_cropped_to_the_nearest_shape(loaded, spec):
    engine, toy = loaded("wan22")
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (0, 0, 60, 100))  # what a crop to 3:2 cuts off
    out = io.BytesIO()
    wide.save(out, "PNG")
    order = engine.prepare(spec(toy, size=96), out.getvalue())
    assert order.picture.size == (96, 64)
    assert np.asarray(order.picture)[:, :, 2].max() < 60
    assert cropped_box(300, 100, ClipSize(96, 64)) == (75, 0, 225, 100)


def test_a_clip_is_an_mp4_of_the_frames(loaded, spec, picture):
    engine, toy = loaded("wan22")
    rendered = engine.render(engine.prepare(spec(toy), picture), ignore)
    told = []
    with av.open(io.BytesIO(engine.encode(rendered, told.append))) as clip:
        stream = clip.streams.video[0]
        assert (stream.frames, stream.width, stream.height) == (9, 64, 64)
        assert stream.average_rate == 8
    assert told == [None] * 9


def test_what_the_profile_does_not_serve_fails_for_good(loaded, spec, picture):
    engine, toy = loaded("wan22")
    with pytest.raises(Permanent, match="frames: wan22 takes 5 to 25 in steps of 4"):
        engine.prepare(spec(toy, frames=10), picture)


@pytest.mark.parametrize(("name", "option"), [("wan22", "loop"), ("ltx-condition", "loop")])
def test_a_loop_has_an_effect(loaded, spec, picture, name, option):
    engine, toy = loaded(name)
    plain = frames_of(engine, engine.prepare(spec(toy), picture))
    looped = frames_of(engine, engine.prepare(spec(toy, loop=True), picture))
    assert not np.array_equal(plain, looped)


def test_a_negative_prompt_has_an_effect_and_none_is_the_profiles(loaded, spec, picture):
    engine, toy = loaded("wan22-ti2v")
    plain, named, other = (
        frames_of(engine, engine.prepare(spec(toy, negative_prompt=words), picture))
        for words in ("", "blurry", "gentle")
    )
    assert np.array_equal(plain, named), "the profile's own is 'blurry'"
    assert not np.array_equal(plain, other)


def test_motion_becomes_a_bucket(loaded, spec, picture):
    engine, toy = loaded("svd")
    buckets = [
        engine._arguments(engine.prepare(spec(toy, motion=motion), picture))["motion_bucket_id"]
        for motion in (0.0, 1.0, 1.5, 2.0)
    ]
    assert buckets == [1, 127, 190, 254]


def fail_once(pipe, failures=1):
    """The allocator's real error in the middle of a step."""
    left = [failures]

    def hook(*_):
        if left[0]:
            left[0] -= 1
            torch.empty(1 << 60, dtype=torch.uint8)

    return pipe.transformer.register_forward_pre_hook(hook)


def test_memory_that_runs_out_once_costs_a_second_render(loaded, spec, picture):
    engine, toy = loaded("wan22")
    order = engine.prepare(spec(toy), picture)
    frames = frames_of(engine, order)
    hook = fail_once(engine._pipe)
    assert np.array_equal(frames_of(engine, order), frames)
    hook.remove()


def test_memory_that_runs_out_twice_is_said_with_sizes(loaded, spec, picture):
    engine, toy = loaded("wan22")
    hook = fail_once(engine._pipe, 2)
    with pytest.raises(Permanent, match=r"No memory for 64x64, 9 frames.*allocate") as failed:
        engine.render(engine.prepare(spec(toy), picture), ignore)
    assert failed.value.code == "out_of_memory"
    hook.remove()


def test_numbers_that_are_none_do_not_become_black_frames(loaded, spec, picture):
    engine, toy = loaded("wan22")
    with torch.no_grad():
        engine._pipe.transformer.proj_out.bias[0] = float("nan")
    with pytest.raises(RenderFailed) as failed:
        engine.render(engine.prepare(spec(toy), picture), ignore)
    assert failed.value.code == "numerical_error"


def test_a_prompt_is_encoded_once_where_the_encoder_is_offloaded(loaded, spec, picture):
    engine, toy = loaded("wan22", table=("first_frame", "offload = true\nfirst_frame"))
    asked = []
    engine._pipe.text_encoder.register_forward_pre_hook(lambda *_: asked.append(1))
    order = engine.prepare(spec(toy), picture)
    frames = frames_of(engine, order)
    assert np.array_equal(frames_of(engine, order), frames)
    assert len(asked) == 1
    frames_of(engine, engine.prepare(spec(toy, prompt="zoom in"), picture))
    assert len(asked) == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_it_warms_up_with_a_picture_at_every_size(loaded, name, monkeypatch):
    loaded_engine, toy = loaded(name)
    rendered = []
    render = engine.DiffusersEngine.render

    def watch(self, order, on_step):
        rendered.append(f"{order.picture.width}x{order.picture.height}")
        assert np.asarray(order.picture).std() > 20, "a real picture"
        return render(self, order, on_step)

    monkeypatch.setattr(engine.DiffusersEngine, "render", watch)
    loaded_engine.warm_up()
    assert rendered == list(toy.sizes)
