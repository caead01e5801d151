"""The motion engine with the shipped model: which words of a prompt reach the clip."""

import functools
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from app.config.profiles_file import PROFILES
from app.domain.job.profiles import DEFAULT_PROFILE
from workers.engines.base import RenderSpec
from workers.engines.motion.engine import plain_words
from workers.engines.registry import load_engine

PROFILE = PROFILES[DEFAULT_PROFILE]


@pytest.fixture(scope="module")
def engine():
    settings = SimpleNamespace(
        model_dir=None, model_dtype="auto", model_graph="eager", matte_model="u2netp"
    )
    return load_engine(PROFILE, settings)


@pytest.fixture(scope="module")
def picture():
    return np.ascontiguousarray(data.coffee()[::4, ::4])  # (100, 150, 3)


@pytest.fixture(scope="module")
def clip(engine, picture):
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")

    def clip(prompt, seed=1):
        spec = RenderSpec(prompt, seed, frames=8, fps=8, size=96, steps=PROFILE.steps)
        rendered = engine.render(engine.prepare(spec, out.getvalue()), lambda _step: None)
        return engine.encode(rendered, lambda _step: None)

    return clip


@pytest.fixture(scope="module")
def fit(engine, picture):
    """Zoom, turn and shift at the end of a clip, in half sides."""

    @functools.cache
    def fit(prompt):
        plain = plain_words(PROFILE.grammar, prompt)
        end = engine._animation.denoise(picture, None, plain, 1, PROFILE.steps).camera[-1]
        return {
            "zoom": -(end[0, 0] + end[1, 1]).item() / 2,
            "turn": (end[1, 0] - end[0, 1]).item() / 2,
            "shift": end[:, 2].norm().item(),
        }

    return fit


def test_a_prompt_of_unknown_words_makes_the_clip_of_no_prompt_bit_for_bit(clip):
    none = clip("")
    assert clip("asdf qwer") == none
    assert clip("the bird flies away, волны, she blinks 🎉") == none
    assert clip("asdf qwer", seed=2) != none


def test_unknown_words_next_to_known_ones_change_nothing(clip):
    sways = clip("sways")
    assert clip("asdf qwer sways") == sways
    other = clip("only the background sways, she smiles")
    assert other not in (sways, clip("")), "the background, instead of the subject"
    assert sways != clip("")


@pytest.mark.parametrize(
    ("asked", "refused", "kind"),
    [
        ("zoom in", "no zoom", "zoom"),
        ("zoom out", "without zooming out", "zoom"),
        ("rotate left", "don't rotate", "turn"),
        ("pan left", "no pan left", "shift"),
    ],
)
def test_a_refused_motion_is_made_neither_way(fit, asked, refused, kind):
    wanted = abs(fit(asked)[kind])
    assert wanted > 0.05
    assert abs(fit(refused)[kind]) < wanted / 5


def test_no_sway_still_moves(fit):
    assert fit("without sway")["zoom"] > 0.05


def test_an_engine_without_a_grammar_gets_the_prompt_as_it_is():
    assert plain_words(None, "no zoom: asdf") == "no zoom: asdf"
