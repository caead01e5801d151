"""Graphs: the same clip within rounding, beats as before, and where they are wrong none."""

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from app.config import profiles_file
from app.config.profiles_file import ProfilesFileError
from workers.engines.diffusers.graphs import Graphs, _traced
from workers.engines.diffusers.table import read_table
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
def test_without_a_compiler_the_model_runs_as_it_is(both, spec, picture):
    eager, engine, toy = both
    without = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    with without, capture_logs() as logs:
        engine.warm_up()
    events = [entry["event"] for entry in logs if entry["event"] != "setup_phase"]
    assert events == ["model_graph_refused"]
    order = eager.prepare(spec(toy), picture)
    frames = engine.render(order, ignore).frames
    assert np.array_equal(np.stack(frames), np.stack(eager.render(order, ignore).frames))


def test_a_graph_of_a_part_that_is_not_there_is_refused(place, load):
    with pytest.raises(Unusable, match="graphs: the checkpoint has no 'transformer'"):
        load(place("svd"), table=COMPILED)


TRACED = ("first_frame", 'graphs = { transformer = "torchscript" }\nfirst_frame')


def test_traced_blocks_make_the_same_clip(place, load, spec, picture):
    toy = place("wan22")
    eager, engine = load(toy), load(toy, table=TRACED, sizes=["64x64"])
    with capture_logs() as logs:
        engine.warm_up()
    assert logs == []
    assert engine._graphs[0].used == 2
    order = eager.prepare(spec(toy), picture)
    frames = np.stack(engine.render(order, ignore).frames)
    wanted = np.stack(eager.render(order, ignore).frames)
    assert np.abs(frames.astype(int) - wanted).max() <= 2
    assert np.array_equal(frames, np.stack(engine.render(order, ignore).frames))


@pytest.mark.slow
def test_a_whole_network_can_be_traced(place, load, spec, picture):
    toy = place("svd")
    table = ("first_frame", 'graphs = { unet = "torchscript" }\nfirst_frame')
    engine = load(toy, table=table, sizes=["64x64"])
    with capture_logs() as logs:
        engine.warm_up()
    assert logs == []
    assert engine._graphs[0].used == 1


@pytest.mark.slow
def test_a_part_that_is_never_called_is_said_to_have_no_graph(place, load):
    table = ("first_frame", 'graphs = { vae = "torchscript" }\nfirst_frame')
    engine = load(place("wan22"), table=table, sizes=["64x64"])
    with capture_logs() as logs:
        engine.warm_up()
    assert [entry["reason"] for entry in logs] == ["the pipeline never calls it"]


class Branching(torch.nn.Module):
    """Takes another way for another value, which a trace does not see."""

    def forward(self, x):
        return x * 2 if float(x.sum()) > 0 else x * 3


def test_a_graph_that_misses_a_branch_is_not_used():
    network = Branching()
    graphs = Graphs("transformer", "torchscript", network, _traced)
    with capture_logs() as logs:
        found = [network(torch.tensor([x, 2 * x])) for x in (1.0, -1.0, 1.0)]
    assert [each[0].item() for each in found] == [2.0, -3.0, 2.0]
    (line,) = logs
    assert line["event"] == "model_graph_refused" and line["component"] == "transformer"
    assert line["reason"].startswith("the graph is off by ")
    assert graphs.used == 0


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ('graphs = { transformer = "tensorrt" }', "'eager', 'torchscript', 'compile' or 'aoti'"),
        (
            'graphs = { transformer = "aoti" }\noffload = true',
            "graphs: aoti needs weights that stay in their place, not offload = true",
        ),
        (
            'graphs = { transformer = "torchscript" }\nparallel = { gpus = 2 }',
            "graphs: torchscript is for one GPU; a part that several share can be compile",
        ),
        ('packages = "here"', "packages: no part in graphs is aoti"),
    ],
)
def test_a_wrong_graph_is_refused_with_its_line(place, tmp_path, new, sentence):
    toy = place("wan22")
    file = toy.profile(tmp_path, table=("first_frame", f"{new}\nfirst_frame"))
    first = new.partition("\n")[0]
    line = file.read_text().splitlines().index(first) + 1
    with pytest.raises(ProfilesFileError) as refused:
        read_table(profiles_file.read(file))
    assert f"{file}:{line}:" in str(refused.value) and sentence in str(refused.value)
