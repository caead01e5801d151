"""The benchmark of engines, at toy size on the CPU: it must run on a GPU without another line."""

import pytest

pytest.importorskip("transformers")
import torch

from scripts.benchmarks import engines_full_size, engines_toys
from scripts.benchmarks.engines_models import COMPILED, MODELS, Model, Variant, random_weights
from scripts.benchmarks.engines_stages import STAGES
from tests.support import toys
from tests.support.toys.parts import umt5_encoder
from tests.support.toys.wan import wan_transformer, wan_vae

CPU = torch.device("cpu")


def toy_parts(device):
    """As those of a published model: configurations of the real classes, random weights."""
    parts = toys.wan22().components
    bf16 = torch.bfloat16
    return parts | {
        "transformer": random_weights(wan_transformer, bf16, device),
        "transformer_2": random_weights(wan_transformer, bf16, device),
        "text_encoder": random_weights(umt5_encoder, bf16, device),
        "vae": random_weights(wan_vae, torch.float32, device),
    }


@pytest.fixture
def toy_model(tmp_path):
    def toy_model(*variants):
        profile = toys.TOYS["wan22"].profile(tmp_path)
        config = {"boundary_ratio": 0.9}
        return Model("toy", profile, toy_parts, config, 9, (64, 64), None, variants)

    return toy_model


def test_a_family_is_compared_with_stock_and_stopped():
    (found,) = engines_toys.families(["wan22"], repeats=1)
    assert (found.max_abs, found.steps_after_cancel, found.same_after_cancel) == (0, 0, True)
    for clip in (found.stock, found.ours):
        assert clip.forwards == 4 and set(clip.stages) == set(STAGES)
        assert sum(clip.stages.values()) == pytest.approx(clip.total_s)
        assert min(clip.stages[name] for name in ("encoder", "denoising", "vae_decode", "mp4")) > 0
        assert clip.stages["residual"] < 0.7 * clip.total_s


def test_a_model_of_random_weights_is_measured(toy_model):
    model = toy_model(
        Variant("vae bf16", cast={"vae": torch.bfloat16}), Variant("broken", {"attention": "flash"})
    )
    rows = {row["what"]: row for row in engines_full_size.measure(model, CPU, 0.1)}
    assert rows["two steps, warm"]["tflops_per_forward"] > 0
    stock, ours = rows["stock"], rows["ours"]
    assert ours["equal_to_stock"] and ours["finite"]
    for row in (stock, ours, rows["ours, vae bf16"]):
        assert row["forwards"] == 4 and row["ceiling_share"] > 0
        named = sum(row[f"{name}_s"] for name in STAGES)
        assert named == pytest.approx(row["total_s"], rel=1e-2)
    assert rows["cancel"]["steps_done"] in (1, 2)
    assert "cannot be used" in rows["failed broken"]["error"]


def test_what_takes_too_long_or_fails_is_said_and_left(toy_model, monkeypatch, capsys):
    def broken(device):
        raise RuntimeError("no such weights")

    slow = toy_model()
    monkeypatch.setitem(MODELS, "slow", slow)
    monkeypatch.setitem(
        MODELS, "broken", Model("broken", slow.template, broken, {}, 9, (64, 64), None, ())
    )
    rows = engines_full_size.run({"slow": 0.05, "broken": 60.0})
    assert [row.get("what") for row in rows[1:]][-2:] == ["out of time", "failed"]
    assert "no such weights" in capsys.readouterr().out


@pytest.mark.parametrize("name", MODELS)
def test_shipped_profiles_serve_what_is_measured(name):
    from app.config import profiles_file

    model = MODELS[name]
    profile = profiles_file.read(model.template)
    assert model.size in [tuple(size) for size in profile.sizes]
    assert profile.min_frames <= model.frames <= profile.max_frames


@pytest.mark.slow
def test_compiled_blocks_are_measured(toy_model):
    model = toy_model(COMPILED)
    rows = {row["what"]: row for row in engines_full_size.measure(model, CPU, 0.1)}
    assert rows["ours, compiled"]["forwards"] == 4
