"""The pipeline on a tiny random model, and the shipped model on a real photo."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.fft import dctn
from skimage import data

from workers.pipeline.animation import SHIPPED, Animation, naming_memory
from workers.pipeline.denoiser import MotionDenoiser
from workers.pipeline.errors import CheckpointError, NumericalError, OutOfMemory, PipelineError
from workers.pipeline.guidance import GuidedDenoiser
from workers.pipeline.loader import load_model, save_model
from workers.training.train import model_config


@pytest.fixture(scope="module")
def toy_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("toy")
    config = model_config(toy=True)
    torch.manual_seed(0)
    save_model(directory, config, MotionDenoiser(config.network).state_dict())
    return directory


@pytest.fixture(scope="module")
def toy(toy_dir):
    return Animation.load(toy_dir, dtype="fp32")


@pytest.fixture(scope="module")
def shipped():
    return Animation.load()


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(data.coffee()[::2, ::2])  # (200, 300, 3)


def clip(animation, picture, prompt="sway", seed=1, frames=8, **options):
    return list(animation.animate(picture, prompt, seed=seed, frames=frames, **options))


@pytest.mark.parametrize("frames", [8, 48, 96])
def test_a_clip_has_the_frames_that_were_asked_for_and_starts_with_the_picture(toy, photo, frames):
    got = clip(toy, photo, frames=frames, steps=2)
    assert len(got) == frames
    assert np.array_equal(got[0], photo)
    assert {f.shape for f in got} == {photo.shape}


def test_same_seed_same_frames_other_seed_other_frames(toy, photo):
    first, again, other = (clip(toy, photo, seed=s, steps=2) for s in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_seeds_of_any_size_are_taken(toy, photo):
    for seed in (0, 2**31, 2**63, 2**64 - 1, -1):
        assert len(clip(toy, photo, seed=seed, steps=1)) == 8


def test_denoising_is_done_and_reported_before_the_first_frame(toy, photo):
    seen = []
    toy.animate(photo, "", seed=0, frames=8, steps=4, on_step=lambda k, n: seen.append((k, n)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_exception_from_on_step_stops_the_work_in_that_step(toy, photo):
    class Canceled(Exception):
        pass

    seen = []

    def cancel(k, n):
        seen.append(k)
        if k == 2:
            raise Canceled

    with pytest.raises(Canceled):
        toy.animate(photo, "", seed=0, frames=8, steps=9, on_step=cancel)
    assert seen == [1, 2]


def test_it_runs_in_another_thread(toy, photo):
    got = []
    thread = threading.Thread(target=lambda: got.extend(clip(toy, photo, steps=2)))
    thread.start()
    thread.join(60)
    expected = clip(toy, photo, steps=2)
    assert len(got) == 8
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_prompts_without_known_words_mean_the_default_motion(toy, photo):
    default = clip(toy, photo, toy.config.default_prompt, steps=2)
    for prompt in ("", "   ", "xyzzy 123 !?", "漢字"):
        got = clip(toy, photo, prompt, steps=2)
        assert all(np.array_equal(a, b) for a, b in zip(got, default, strict=True))


def test_unknown_words_change_nothing(toy, photo):
    plain = clip(toy, photo, "zoom in", steps=2)
    wordy = clip(toy, photo, "please zoom xyzzy in ??", steps=2)
    assert all(np.array_equal(a, b) for a, b in zip(plain, wordy, strict=True))


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_picture_is_refused(toy, picture):
    with pytest.raises(ValueError, match="uint8"):
        clip(toy, picture)


@pytest.mark.parametrize("frames", [0, 7, 97])
def test_numbers_of_frames_out_of_range_are_refused(toy, photo, frames):
    with pytest.raises(ValueError, match="8 to 96"):
        clip(toy, photo, frames=frames)


def test_values_that_are_not_finite_never_become_frames(toy_dir, photo):
    broken = Animation.load(toy_dir, dtype="fp32")
    broken.network.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NumericalError, match="Step 1 of 3"):
        clip(broken, photo, steps=3)


def test_guidance_with_scales_of_one_is_the_conditional_prediction(toy):
    """bare + (seen - bare) + (told - seen) = told."""
    picture = torch.randn(1, 3, 32, 32)
    tokens = toy.tokenise("zoom in")[None]
    x, sigma = torch.randn(1, 2, 16, 16, 16), torch.tensor(1.0)
    with torch.inference_mode():
        guided = GuidedDenoiser(toy.network, picture, tokens, 1.0, 1.0, 16)(x, sigma)
        level = 0.5**0.5
        v = toy.network(x * level, torch.tensor([0.5]), picture, tokens)
    assert torch.allclose(guided, x * level * level - v * level, atol=1e-5)


def test_guidance_at_scale_zero_ignores_picture_and_text(toy):
    x, sigma = torch.randn(1, 2, 16, 16, 16), torch.tensor(1.0)
    with torch.inference_mode():
        one, other = (
            GuidedDenoiser(
                toy.network, torch.randn(1, 3, 32, 32), toy.tokenise(prompt)[None], 0.0, 0.0, 16
            )(x, sigma)
            for prompt in ("zoom in", "pan left")
        )
    assert torch.allclose(one, other, atol=1e-6)


def test_sampled_motion_holds_no_frequency_beyond_its_bands(toy):
    x, sigma = torch.randn(1, 2, 16, 16, 16), torch.tensor(1.0)
    picture, tokens = torch.randn(1, 3, 32, 32), toy.tokenise("sway")[None]
    with torch.inference_mode():
        full, low = (
            GuidedDenoiser(toy.network, picture, tokens, 1.0, 1.0, bands)(x, sigma).double().numpy()
            for bands in (16, 5)
        )
    axes = (2, 3, 4)
    spectrum, kept = dctn(full, axes=axes, norm="ortho"), dctn(low, axes=axes, norm="ortho")
    assert np.allclose(kept[:, :, :5, :5, :5], spectrum[:, :, :5, :5, :5], atol=1e-4)
    kept[:, :, :5, :5, :5] = 0
    assert np.abs(kept).max() < 1e-4


def edit_weights(source, target, edit):
    """Copy a model directory with its tensors changed by edit(dict)."""
    target.mkdir()
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    weights = safetensors.torch.load_file(source / "model.safetensors")
    edit(weights)
    safetensors.torch.save_file(weights, target / "model.safetensors")
    return target


KEY = "unet.conv_in.weight"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda w: w.pop(KEY), f"lacks the tensor {KEY}"),
        (lambda w: w.update(extra=torch.zeros(1)), "unknown tensor extra"),
        (lambda w: w.update({KEY: torch.zeros(3)}), rf"{KEY} has shape \(3,\), expected \(8, 16"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(toy_dir, tmp_path, edit, says):
    with pytest.raises(CheckpointError, match=says) as caught:
        Animation.load(edit_weights(toy_dir, tmp_path / "m", edit))
    assert "model.safetensors" in str(caught.value)


def test_a_truncated_or_missing_file_is_named(toy_dir, tmp_path):
    copy = edit_weights(toy_dir, tmp_path / "m", lambda w: None)
    whole = (copy / "model.safetensors").read_bytes()
    for part in (whole[: len(whole) // 2], whole[:5], b""):
        (copy / "model.safetensors").write_bytes(part)
        with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
            Animation.load(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        Animation.load(copy)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        Animation.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("steps"),
        lambda c: c.update(colour="red"),
        lambda c: c["network"].update(grid="big"),
        lambda c: c.update(network=[]),
    ],
)
def test_a_config_that_does_not_fit_is_named(toy_dir, tmp_path, change):
    copy = edit_weights(toy_dir, tmp_path / "m", lambda w: None)
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Animation.load(copy)


def test_saved_models_come_back_as_they_were(toy_dir, tmp_path):
    network, config = load_model(toy_dir, torch.bfloat16, "cpu")
    save_model(tmp_path / "again", replace(config, version="9"), network.state_dict())
    second, other = load_model(tmp_path / "again", torch.bfloat16, "cpu")
    assert other == replace(config, version="9")
    for key, value in network.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])


def test_running_out_of_memory_has_a_name():
    with pytest.raises(OutOfMemory), naming_memory():
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="other"), naming_memory():
        raise RuntimeError("something other")
    assert issubclass(OutOfMemory, PipelineError)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="fp8"):
        Animation.load(dtype="fp8")


def test_the_shipped_model_is_small_and_says_what_it_is(shipped):
    assert (SHIPPED / "model.safetensors").stat().st_size <= 15_000_000
    assert shipped.version
    assert (shipped.steps, shipped.passes_per_step) == (15, 3)
    assert (SHIPPED / "README.md").exists()
    shipped.warm_up()


def test_the_shipped_model_does_what_the_prompt_says(shipped, photo):
    """On a real photo: directions of pans and signs of zooms, averaged over the clip."""

    def motion(prompt):
        return shipped.denoise(photo, prompt, seed=3, steps=shipped.steps).mean(1)

    line = (torch.arange(16) + 0.5) / 8 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    outward = {p: (motion(p)[0] * x + motion(p)[1] * y).mean() for p in ("zoom in", "zoom out")}
    assert outward["zoom in"] < -0.01 < 0.01 < outward["zoom out"]
    assert motion("pan left")[0].mean() < -0.04
    assert motion("tilt down")[1].mean() > 0.04
