"""Compiled blocks: the same clip within rounding, beats as before, and without a compiler none."""

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from workers.engines.diffusers.unusable import Unusable

COMPILED = ("first_frame", 'graphs = { transformer = "compile" }\nfirst_frame')


def ignore(_step):
    pass


@pytest.fixture
def both(place, load, monkeypatch, tmp_path):
    """A toy's engine without and with compiled blocks. Nothing compiled is left for others."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    toy = place("ltx")
    yield load(toy), load(toy, table=COMPILED, sizes=["64x64"]), toy
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_compiled_blocks_make_the_same_clip(both, spec, picture):
    eager, engine, toy = both
    order = eager.prepare(spec(toy), picture)
    engine.warm_up()
    engine._pulse.beat_s = 0.0
    told = []
    frames = np.stack(engine.render(order, told.append).frames).astype(int)
    wanted = np.stack(eager.render(order, ignore).frames)
    assert np.abs(frames - wanted).max() <= 2
    first, second = told.index(1), told.index(2)
    assert told[first:second].count(None) >= 2, "each block is a beat"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_a_compiler_the_model_runs_as_it_is(both, spec, picture, monkeypatch):
    eager, engine, toy = both
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with capture_logs() as logs:
        engine.warm_up()
    assert [entry["event"] for entry in logs] == ["model_graph_refused"]
    order = eager.prepare(spec(toy), picture)
    frames = engine.render(order, ignore).frames
    assert np.array_equal(np.stack(frames), np.stack(eager.render(order, ignore).frames))


def test_a_graph_of_a_part_that_is_not_there_is_refused(place, load):
    with pytest.raises(Unusable, match="graphs: the checkpoint has no 'transformer'"):
        load(place("svd"), table=COMPILED)
