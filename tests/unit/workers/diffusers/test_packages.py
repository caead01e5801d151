"""Compiled packages: right for what they were built for, and otherwise not used.

The slow tests compile one block of a toy, once for all of them.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from app.config import profiles_file
from app.config.settings import ConfigError
from workers.engines.diffusers import packages, packaging
from workers.engines.diffusers.table import read_table
from workers.engines.diffusers.unusable import Unusable

PACKAGED = ("first_frame", 'graphs = { transformer = "aoti" }\nfirst_frame')
CPU = torch.device("cpu")


def ignore(_step):
    pass


def frames_of(engine, order):
    return np.stack(engine.render(order, ignore).frames)


def refusals(logs):
    return [entry["reason"] for entry in logs if entry["event"] == "model_graph_refused"]


def build(file, tell=ignore):
    profile = profiles_file.read(file)
    return packaging.build(profile, read_table(profile), CPU, tell)


@pytest.fixture
def toy(place):
    return place("wan22")


@pytest.fixture
def packaged(load, toy):
    """Load the toy with packages, as a worker does that was told to use them."""
    return lambda: load(toy, table=PACKAGED, sizes=["64x64"])


def test_without_packages_the_model_runs_as_it_is(toy, load, packaged, spec, picture):
    eager = load(toy)
    with capture_logs() as logs:
        engine = packaged()
    (reason,) = refusals(logs)
    assert reason == "no packages: run `python -m workers.models compile` for this profile"
    order = eager.prepare(spec(toy), picture)
    assert np.array_equal(frames_of(engine, order), frames_of(eager, order))


def test_packages_for_something_else_are_not_used(toy, packaged, tmp_path):
    engine = packaged()
    pipe, table = engine._pipe, engine._table
    here = packages.needs(pipe, table)
    folder = tmp_path / "wan22.packages"

    def refused(**changes):
        folder.mkdir(exist_ok=True)
        packages.write_manifest(packages.Packages(folder, replace(here, **changes), ()))
        found = packages.open_packages(folder, pipe, table)
        return [found] if isinstance(found, str) else []

    assert refused() == []
    assert refused(torch="2.0.0") == [f"the packages are for torch 2.0.0, this is {here.torch}"]
    assert refused(diffusers="0.1") == [
        f"the packages are for diffusers 0.1, this is {here.diffusers}"
    ]
    assert refused(device="cuda 9.0") == [
        f"the packages are for device cuda 9.0, this is {here.device}"
    ]
    assert refused(instructions=(*here.instructions, "avx1024")) == [
        "the packages need a CPU with avx1024"
    ]
    assert refused(profile="0" * 64) == [
        "the packages are for another state of the profile or the checkpoint"
    ]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 2}', '{"format": 1, "needs": {}, "packages": []}', "\udc80"],
)
def test_a_manifest_that_is_none_is_not_used(tmp_path, content):
    file = tmp_path / "packages.json"
    file.write_text(content, errors="surrogateescape")
    assert packages.open_packages(tmp_path, None, None) == f"{file} cannot be read"


def test_another_network_type_or_lora_needs_other_packages(toy, packaged):
    engine = packaged()
    pipe, table = engine._pipe, engine._table
    first = packages.needs(pipe, table).profile
    assert packages.needs(pipe, table.model_copy(update={"attention": "native"})).profile != first
    assert packages.needs(pipe, table.model_copy(update={"dtype": {}})).profile != first
    assert packages.needs(pipe, table.model_copy(update={"call": {}})).profile == first
    pipe.transformer.register_to_config(num_layers=3)
    assert packages.needs(pipe, table).profile != first


def test_instruction_sets_are_read_where_linux_lists_them(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu vme avx2 sse4_2 arch_perfmon\n")
    assert packages.instructions(cpuinfo) == ("avx2", "sse4_2")
    cpuinfo.write_text("processor : 0\nFeatures : sve asimd\n")
    assert packages.instructions(cpuinfo) == ("asimd", "sve")
    assert len(packages.instructions(tmp_path / "missing")) == 1


def test_without_a_compiler_nothing_is_built(toy, tmp_path):
    file = toy.profile(tmp_path, table=PACKAGED)
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(Unusable, match=r"There is no C\+\+ compiler here: install g\+\+"),
    ):
        build(file)
    with pytest.raises(ConfigError, match=r"no part in \[diffusers.graphs\] is \"aoti\""):
        build(toy.profile(tmp_path))


def test_tensors_are_given_as_they_were_compiled_for():
    wide = torch.arange(24.0).reshape(2, 12)
    for tensor in (wide.T, wide[:, 1:3], wide[None].expand(4, 2, 12), wide[:1].T, wide[0, 1:]):
        strides = packages.plain_strides(tensor.shape)
        made = packages.plain(tensor, strides)
        assert torch.equal(made, tensor) and made.stride() == strides
        assert made.data_ptr() % packages.ALIGNED == 0
    assert packages.plain(wide, (12, 1)) is wide


@pytest.fixture(scope="module")
def built(checkpoints, tmp_path_factory):
    """A directory with a toy, its profile, and packages for it; and what the build told."""
    from tests.support.toys import TOYS

    folder = tmp_path_factory.mktemp("packaged")
    shutil.copytree(checkpoints("wan22"), folder / "wan22")
    told = []
    build(TOYS["wan22"].profile(folder, table=PACKAGED, sizes=["64x64"]), told.append)
    return folder / "wan22.packages", told


@pytest.fixture
def with_packages(built, toy, packaged, tmp_path):
    """Like `packaged`, with the packages in their place."""
    shutil.copytree(built[0], tmp_path / "wan22.packages")
    return packaged


def warm(engine):
    with capture_logs() as logs:
        engine.warm_up()
    return refusals(logs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_packages_make_the_same_clip(with_packages, built, load, toy, spec, picture):
    assert len(built[1]) == 1, "two blocks, one package"
    eager, engine = load(toy), with_packages()
    assert warm(engine) == []
    (graphs,) = engine._graphs
    assert graphs.used == 2
    order = eager.prepare(spec(toy), picture)
    frames, wanted = frames_of(engine, order), frames_of(eager, order)
    assert np.abs(frames.astype(int) - wanted).max() <= 2
    assert np.array_equal(frames, frames_of(engine, order))
    # Frames that were not in the warm-up run as they are, which is said once.
    longer = eager.prepare(spec(toy, frames=13), picture)
    with capture_logs() as logs:
        found = frames_of(engine, longer), frames_of(engine, longer)
    assert all(np.array_equal(each, frames_of(eager, longer)) for each in found)
    (reason,) = refusals(logs)
    assert reason.startswith("not warmed up for 1x64x48 ")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_package_sees_other_weights_and_refuses_other_shapes(with_packages):
    engine = with_packages()
    engine.warm_up()
    block = engine._pipe.transformer.blocks[0].forward
    ((key, run),) = block._graphs.items()
    torch.manual_seed(0)
    given = [torch.randn(shape[3:]) for shape in leaves(key)]
    flat = packaging.FlatCall(block._block, block._eager, key)
    weight = block._block.attn1.to_q.weight
    for change in (
        lambda: weight.data.add_(torch.randn(weight.shape)),  # as LoRAs are fused
        lambda: setattr(weight, "data", torch.randn(weight.shape)),
    ):
        before = run(given)[0]
        change()
        assert (run(given)[0] - flat(*given)[0]).abs().max() < 1e-4
        assert (run(given)[0] - before).abs().max() > 1e-2
    given[0] = torch.cat([given[0], given[0]], 1)
    with pytest.raises(RuntimeError, match="unmatched dim value at 1, expected: 48, but got: 96"):
        run._loader.boxed_run(list(given))


def leaves(key):
    if key[0] == "tensor":
        return [key]
    return [leaf for each in key[1:] if isinstance(each, tuple) for leaf in leaves(each)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_package_that_computes_something_else_is_not_used(
    with_packages, load, toy, spec, picture
):
    engines = load(toy), with_packages()
    for engine in engines:
        engine._pipe.transformer.blocks[1].norm1.eps = 100.0
    (reason,) = warm(engines[1])
    assert reason.startswith("the graph is off by ")
    order = engines[0].prepare(spec(toy), picture)
    assert np.array_equal(frames_of(engines[1], order), frames_of(engines[0], order))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_damaged_package_is_not_used(with_packages, tmp_path):
    file = tmp_path / "wan22.packages" / "0.pt2"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"?")
    assert warm(with_packages()) == [f"ValueError: {file} is not the file that was built"]
    file.unlink()
    (reason,) = warm(with_packages())
    assert reason.startswith("FileNotFoundError")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_size_without_a_package_runs_as_it_is(with_packages, load, toy, tmp_path):
    engine = load(toy, table=PACKAGED, sizes=["64x64", "96x64"])
    (reason,) = warm(engine)
    assert reason.startswith("no package for 1x72x48 ")
    assert engine._graphs[0].used == 2
    manifest = json.loads((tmp_path / "wan22.packages/packages.json").read_text())
    assert [each["component"] for each in manifest["packages"]] == ["transformer"]
