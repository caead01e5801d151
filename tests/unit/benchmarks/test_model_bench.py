"""The model's benchmark measures what a worker does: its memory, and the networks that run."""

import resource
from types import SimpleNamespace

from scripts.benchmarks import model
from workers.engines.motion.engine import load_picture
from workers.pipeline.animation import Animation


def test_the_peak_is_that_of_the_process_not_of_the_one_that_started_it(monkeypatch):
    """After exec, getrusage still counts the peak of the parent that forked."""
    inherited = SimpleNamespace(ru_maxrss=10**9)
    monkeypatch.setattr(resource, "getrusage", lambda who: inherited)
    worker = SimpleNamespace(warm_up=lambda: None)
    monkeypatch.setattr(model, "Animation", SimpleNamespace(load=lambda **given: worker))
    monkeypatch.setattr(model, "clip", lambda *given: b"")
    assert model.cold_start(model.PHOTO)["peak_rss_mb"] < 10**9 / 1024


def test_the_unet_runs_where_something_bends_and_not_in_the_other_clip():
    animation, passes = Animation.load(), []
    animation.network.unet.register_forward_hook(lambda *given: passes.append(1))
    model.denoising(animation)()
    assert len(passes) == animation.sampling.steps
    passes.clear()
    picture = load_picture(model.jpeg_of(model.PHOTO, 128), 128).pixels
    matte = animation.subjects.find(picture)
    animation.denoise(picture, matte, model.PROMPT, 0)
    assert not passes
    animation.denoise(picture, matte, model.SOFT_PROMPT, 0)
    assert len(passes) == animation.sampling.steps
