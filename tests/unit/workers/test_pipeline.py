"""The pipeline on a tiny random model, and the shipped model on a real photo."""

import json
import logging
import threading
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from skimage import data

from app.config.profiles_file import PROFILES
from app.domain.job.profiles import DEFAULT_PROFILE
from tests.support.tiny_model import write_model
from workers.pipeline.animation import SHIPPED, Animation, translate_oom
from workers.pipeline.errors import CheckpointError, NumericalError, OutOfMemory, PipelineError
from workers.pipeline.guidance import ClipDenoiser, rescale
from workers.pipeline.loader import (
    STUDENT,
    TEACHER,
    Sampling,
    load_config,
    load_network,
    save_config,
    save_weights,
)

PLAIN = Sampling(steps=2, guided=False, order=1)


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_dir):
    return Animation.load(tiny_dir, dtype="fp32")


@pytest.fixture(scope="module")
def tiny_teacher(tiny_dir):
    return Animation.load(tiny_dir, network=TEACHER, dtype="fp32")


@pytest.fixture(scope="module")
def shipped():
    return Animation.load()


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(data.coffee()[::2, ::2])  # (200, 300, 3)


def clip(animation, picture, prompt="ripple", seed=1, frames=8, **options):
    return list(animation.animate(picture, prompt, seed=seed, frames=frames, **options))


@pytest.mark.parametrize("frames", [8, 48, 96])
def test_a_clip_has_the_requested_frames_and_starts_with_the_picture(tiny, photo, frames):
    got = clip(tiny, photo, frames=frames, steps=2)
    assert len(got) == frames
    assert np.array_equal(got[0], photo)
    assert {f.shape for f in got} == {photo.shape}


def test_same_seed_same_frames_other_seed_other_frames(tiny, photo):
    first, again, other = (clip(tiny, photo, seed=s, steps=2) for s in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_seeds_of_any_size_are_accepted(tiny, photo):
    for seed in (0, 2**31, 2**63, 2**64 - 1, -1):
        assert len(clip(tiny, photo, seed=seed, steps=1)) == 8


def test_denoising_is_done_and_reported_before_the_first_frame(tiny, photo):
    seen = []
    tiny.animate(photo, "", seed=0, frames=8, steps=4, on_step=lambda k, n: seen.append((k, n)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_exception_from_on_step_stops_the_work_in_that_step(tiny, photo):
    class Canceled(Exception):
        pass

    seen = []

    def cancel(k, n):
        seen.append(k)
        if k == 2:
            raise Canceled

    with pytest.raises(Canceled):
        tiny.animate(photo, "", seed=0, frames=8, steps=9, on_step=cancel)
    assert seen == [1, 2]


def test_it_runs_in_another_thread(tiny, photo):
    got = []
    thread = threading.Thread(target=lambda: got.extend(clip(tiny, photo, steps=2)))
    thread.start()
    thread.join(60)
    expected = clip(tiny, photo, steps=2)
    assert len(got) == 8
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_clip_leaves_the_number_of_threads_as_it_was(tiny, photo):
    """Small operators run in one thread; a worker's setting must survive that, and an error."""
    before = torch.get_num_threads()

    def stop(*_):
        raise InterruptedError

    try:
        torch.set_num_threads(3)
        list(tiny.animate(photo, "zoom in", seed=1, frames=8))
        assert torch.get_num_threads() == 3
        with pytest.raises(InterruptedError):
            tiny.animate(photo, "zoom in", seed=1, frames=8, on_step=stop)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_prompts_without_words_mean_ambient_motion(tiny, photo):
    default = clip(tiny, photo, "", steps=2)
    for prompt in ("   ", "123 !?", "漢字", "a the of"):
        got = clip(tiny, photo, prompt, steps=2)
        assert all(np.array_equal(a, b) for a, b in zip(got, default, strict=True))


def test_strength_multiplies_the_motion(tiny, photo):
    assert all(np.array_equal(frame, photo) for frame in clip(tiny, photo, strength=0.0))
    away = [
        np.abs(clip(tiny, photo, strength=strength)[-1].astype(float) - photo).mean()
        for strength in (0.25, 1.0)
    ]
    assert 0 < away[0] < away[1]
    for strength in (-0.1, 2.1, float("nan")):
        with pytest.raises(ValueError, match="strength must be"):
            clip(tiny, photo, strength=strength)


def test_a_loop_ends_where_it_begins(tiny, photo):
    frames = [frame.astype(float) for frame in clip(tiny, photo, frames=24, loop=True)]
    steps = [np.abs(a - b).mean() for a, b in zip(frames, [*frames[1:], frames[0]], strict=True)]
    # The last frame leads to the first without a jump, as slowly as the first to the second.
    assert steps[-1] == pytest.approx(steps[0], rel=0.05) and steps[-1] < max(steps)
    # There and back: frame 12 - k is frame 12 + k.
    assert all(np.abs(frames[12 - k] - frames[12 + k]).max() <= 1 for k in (3, 8, 11))
    straight = clip(tiny, photo, frames=24)
    assert np.abs(straight[-1].astype(float) - photo).mean() > steps[-1]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_a_picture_that_is_not_rgb_is_refused(tiny, picture):
    with pytest.raises(ValueError, match="uint8"):
        clip(tiny, picture)


@pytest.mark.parametrize("frames", [0, 7, 97])
def test_numbers_of_frames_out_of_range_are_refused(tiny, photo, frames):
    with pytest.raises(ValueError, match="8 to 96"):
        clip(tiny, photo, frames=frames)


def test_values_that_are_not_finite_never_become_frames(tiny_dir, photo):
    broken = Animation.load(tiny_dir, dtype="fp32")
    broken.network.paths.out.bias.fill_(float("nan"))
    with pytest.raises(NumericalError, match="Step 1 of 3"):
        clip(broken, photo, steps=3)


def test_an_overflow_in_bf16_is_retried_in_fp32(tiny_dir, photo, caplog):
    animation = Animation.load(tiny_dir, dtype="bf16")
    plain = Animation(
        animation.network.float(), animation.config, PLAIN, subjects=animation.subjects
    )
    expected = clip(plain, photo)

    calls = []
    animation = Animation.load(tiny_dir, dtype="bf16")
    run = animation.run_rigid

    def overflow(*inputs):
        calls.append(inputs[0].dtype)
        return run(*inputs) * float("inf")

    animation.run = animation.run_rigid = overflow
    animation.sampling = PLAIN
    with caplog.at_level(logging.WARNING):
        got = clip(animation, photo)
    assert calls == [torch.bfloat16]
    assert "retrying_in_fp32" in caplog.text
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))

    animation.network.paths.out.bias.fill_(float("nan"))  # fp32 does not help here
    with pytest.raises(NumericalError, match="Step 1 of 2"):
        clip(animation, photo)


def predictions(network, sampling, picture, tokens):
    """x0 at noise ratio 1 for a fixed noisy clip."""
    x = torch.randn(1, 8, 8, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return ClipDenoiser(network, picture, tokens, sampling)(x, torch.tensor(1.0)), x


def test_one_pass_is_the_networks_own_prediction(tiny_dir):
    network = load_network(tiny_dir, TEACHER, load_config(tiny_dir), torch.float32, "cpu")
    picture, tokens = torch.rand(1, 4, 64, 64), torch.randint(0, 512, (1, 16, 16))
    x0, x = predictions(network, PLAIN, picture, tokens)
    level = 0.5**0.5
    with torch.inference_mode():
        v = network(x * level, torch.tensor([0.5]), picture, tokens)
    assert torch.allclose(x0, x * level * level - v * level, atol=1e-5)


def test_guidance_with_scales_of_one_is_the_conditional_prediction(tiny_dir):
    """uncond + (image - uncond) + (image_text - image) = image_text."""
    network = load_network(tiny_dir, TEACHER, load_config(tiny_dir), torch.float32, "cpu")
    picture, tokens = torch.rand(1, 4, 64, 64), torch.randint(0, 512, (1, 16, 16))
    guided, _ = predictions(network, replace(PLAIN, guided=True), picture, tokens)
    plain, _ = predictions(network, PLAIN, picture, tokens)
    assert torch.allclose(guided, plain, atol=1e-5)


def test_guidance_at_scale_zero_ignores_picture_and_text(tiny_dir):
    network = load_network(tiny_dir, TEACHER, load_config(tiny_dir), torch.float32, "cpu")
    nothing = Sampling(2, True, 1, picture_scale=0.0, text_scale=0.0)
    one, other = (
        predictions(network, nothing, torch.rand(1, 4, 64, 64), torch.randint(0, 512, (1, 16, 16)))[
            0
        ]
        for _ in range(2)
    )
    assert torch.allclose(one, other, atol=1e-6)


def test_rescaling_brings_a_guided_prediction_back_to_its_strength():
    image_text, guided = torch.randn(2, 2, 8, 4, 4), 3 * torch.randn(2, 2, 8, 4, 4)

    def strength(x):
        return x.square().mean((1, 2, 3, 4)).sqrt()

    assert torch.equal(rescale(guided, image_text, 0.0), guided)
    assert torch.allclose(
        strength(rescale(guided, image_text, 1.0)), strength(image_text), atol=1e-5
    )
    half = strength(rescale(guided, image_text, 0.5))
    assert torch.allclose(half, (strength(image_text) + strength(guided)) / 2, atol=1e-5)


def test_the_served_network_shares_its_context_and_computes_the_same(tiny_dir, tiny_teacher):
    """Three passes at once through the graph, against the network as stock diffusers runs it."""
    network = load_network(tiny_dir, TEACHER, load_config(tiny_dir), torch.float32, "cpu")
    picture = torch.rand(1, 4, 64, 64)
    tokens = tiny_teacher.tokenise("zoom in")[None]
    sampling = tiny_teacher.sampling
    x = torch.randn(1, 8, 8, 16, 16)
    with torch.inference_mode():
        stock = ClipDenoiser(network, picture, tokens, sampling)(x, torch.tensor(1.0))
        ours = ClipDenoiser(tiny_teacher.network, picture, tokens, sampling, tiny_teacher.run)
        assert ours.context.shape[0] == 3  # not repeated per frame
        assert torch.allclose(ours(x, torch.tensor(1.0)), stock, atol=1e-5)


@pytest.mark.parametrize("network", [STUDENT, TEACHER])
def test_the_frozen_graph_animates_as_the_plain_network_does(tiny_dir, photo, network):
    plain, frozen = (
        Animation.load(tiny_dir, network=network, dtype="fp32", graph=graph)
        for graph in ("eager", "torchscript")
    )
    assert frozen.run.kind == "torchscript"
    assert frozen.run_rigid.kind == "torchscript"
    for prompt in ("pan left", "leaves rustle in the wind"):
        a, b = (each.denoise(photo, None, prompt, 1, 3) for each in (plain, frozen))
        for one, other in ((a.camera, b.camera), (a.soft, b.soft)):
            assert torch.allclose(one, other, atol=1e-5)


def edit_weights(source, target, edit):
    """Copy a model directory with its tensors changed by edit(dict)."""
    target.mkdir()
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    weights = safetensors.torch.load_file(source / "student.safetensors")
    edit(weights)
    safetensors.torch.save_file(weights, target / "student.safetensors")
    return target


KEY = "unet.conv_in.weight"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda w: w.pop(KEY), f"lacks the tensor {KEY}"),
        (lambda w: w.update(extra=torch.zeros(1)), "unknown tensor extra"),
        (lambda w: w.update({KEY: torch.zeros(3)}), rf"{KEY} has shape \(3,\), expected \(8, 19"),
        (lambda w: w.update({KEY: w[KEY].int()}), rf"{KEY} has dtype torch\.int32"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(tiny_dir, tmp_path, edit, says):
    with pytest.raises(CheckpointError, match=says) as caught:
        Animation.load(edit_weights(tiny_dir, tmp_path / "m", edit))
    assert "student.safetensors" in str(caught.value)


def test_a_truncated_or_missing_file_is_named(tiny_dir, tmp_path):
    copy = edit_weights(tiny_dir, tmp_path / "m", lambda w: None)
    whole = (copy / "student.safetensors").read_bytes()
    for part in (whole[: len(whole) // 2], whole[:5], b""):
        (copy / "student.safetensors").write_bytes(part)
        with pytest.raises(CheckpointError, match=r"student\.safetensors cannot be read"):
            Animation.load(copy)
    (copy / "student.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"student\.safetensors cannot be read"):
        Animation.load(copy)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        Animation.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("layer_scales"),
        lambda c: c.update(layer_scales=[1.0]),
        lambda c: c.update(colour="red"),
        lambda c: c["network"].update(grid="big"),
        lambda c: c.update(network=[]),
        lambda c: c["sampling"]["student"].pop("steps"),
        lambda c: c["sampling"].pop("student"),
        lambda c: c["network"].update(picture=32),
    ],
)
def test_a_config_that_does_not_fit_is_named(tiny_dir, tmp_path, change):
    copy = edit_weights(tiny_dir, tmp_path / "m", lambda w: None)
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Animation.load(copy)


def test_saved_models_load_unchanged(tiny_dir, tmp_path):
    config = load_config(tiny_dir)
    network = load_network(tiny_dir, STUDENT, config, torch.bfloat16, "cpu")
    save_config(tmp_path, replace(config, version="9"))
    save_weights(tmp_path, STUDENT, network.state_dict())
    assert load_config(tmp_path) == replace(config, version="9")
    second = load_network(tmp_path, STUDENT, config, torch.bfloat16, "cpu")
    for key, value in network.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])


def test_running_out_of_memory_has_its_own_error():
    with pytest.raises(OutOfMemory), translate_oom():
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="other"), translate_oom():
        raise RuntimeError("some other error")
    assert issubclass(OutOfMemory, PipelineError)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="fp8"):
        Animation.load(dtype="fp8")


def test_a_picture_without_a_subject_still_moves_a_little(shipped):
    bricks = np.repeat(data.brick()[::4, ::4, None], 3, 2)
    assert shipped.subjects.find(bricks) is None
    spun, ambient = (clip(shipped, bricks, prompt) for prompt in ("subject spin", ""))
    assert (
        np.abs(spun[-1].astype(int) - ambient[-1]).mean()
        < 1
        < np.abs(spun[-1].astype(int) - bricks).mean()
    )


def test_the_shipped_model_is_small_and_says_what_it_is(shipped):
    assert sum(file.stat().st_size for file in SHIPPED.glob("*.safetensors")) <= 25_000_000
    assert shipped.version
    assert shipped.sampling.steps == PROFILES[DEFAULT_PROFILE].steps, "what the API shows"
    assert not shipped.sampling.guided
    assert (SHIPPED / "README.md").exists()
    shipped.warm_up()


@pytest.mark.parametrize("network", [STUDENT, TEACHER])
def test_the_shipped_networks_do_what_the_prompt_says(photo, network):
    """On a real photo: where the camera ends."""
    animation = Animation.load(network=network)

    def end(prompt):
        return animation.denoise(photo, None, prompt, seed=3).camera[-1]

    assert end("pan left")[0, 2] == pytest.approx(-0.17, rel=0.2)
    assert end("tilt down")[1, 2] == pytest.approx(0.15, rel=0.2)
    assert end("zoom in")[0, 0] == pytest.approx(-0.18, rel=0.2)
    assert end("zoom out")[1, 1] == pytest.approx(0.16, rel=0.2)
    assert end("rotate left")[1, 0] == pytest.approx(0.14, rel=0.2)
