"""Graphs of a tiny real network: exact to rounding, in any thread, with a fallback."""

import logging
import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from workers.pipeline.attention import share_context
from workers.pipeline.compile import KINDS, build_graph
from workers.pipeline.denoiser import DenoiserConfig, OnePass, video_unet

SHAPE = DenoiserConfig(
    channels=(8, 16),
    head_width=8,
    frames=3,
    grid=4,
    picture=16,
    features=8,
    buckets=20,
    caption_length=4,
    text_width=16,
)


def tiny_network(dtype):
    """One pass of a tiny network with shared context, as a worker compiles it."""
    torch.manual_seed(0)
    unet = video_unet(SHAPE, inputs=12, outputs=2)
    nn.ModuleList([unet]).to(dtype).eval().requires_grad_(False)
    share_context(unet)
    return OnePass(unet, repeat=False).eval()


def inputs(dtype, clips, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(clips, 12, 3, 4, 4, generator=draw).to(dtype),
        torch.rand(clips, generator=draw),
        torch.randn(clips, 5, 16, generator=draw).to(dtype),
        torch.randn(clips, 16, generator=draw).to(dtype),
    )


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("clips", [1, 3])
@pytest.mark.parametrize("kind", ["eager", "torchscript"])
def test_a_graph_computes_what_the_network_computes(dtype, kind, clips):
    network = tiny_network(dtype)
    graph = build_graph(network, kind, inputs(dtype, clips))
    assert graph.kind == kind
    with torch.inference_mode():
        for seed in (1, 2):  # not the inputs it was built with
            expected = network(*inputs(dtype, clips, seed))
            # Equal to rounding: fused projections sum in another order.
            assert_close(graph(*inputs(dtype, clips, seed)), expected)
        sample, time, context, pooled_text = inputs(dtype, clips, 2)
        assert not torch.equal(
            graph(sample, time, -context, pooled_text), expected
        )  # not a constant


def test_other_shapes_run_through_the_network_itself():
    network = tiny_network(torch.float32)
    graph = build_graph(network, "torchscript", inputs(torch.float32, 1))
    for clips in (1, 2, 3):
        got = graph(*inputs(torch.float32, clips, 5))
        assert_close(got, network(*inputs(torch.float32, clips, 5)))


def test_a_graph_built_in_one_thread_can_be_called_in_another():
    network = tiny_network(torch.float32)
    graph = build_graph(network, "torchscript", inputs(torch.float32, 1))
    expected = network(*inputs(torch.float32, 1, 4))
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(graph(*inputs(torch.float32, 1, 4))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 3
    for each in got:
        assert_close(each, expected)
    assert not any(x.requires_grad for x in got)


def test_nothing_is_logged_and_no_warning_is_raised(caplog):
    """TorchScript's deprecation and traced shapes would both cause warnings."""
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        build_graph(tiny_network(torch.float32), "torchscript", inputs(torch.float32, 1))(
            *inputs(torch.float32, 1)
        )
    assert [str(w.message) for w in warned] == []
    assert caplog.messages == []


class Branches(nn.Module):
    """Once traced, always takes the branch of the example."""

    def forward(self, x):
        return x * 2 if x[0] > 0 else x * 3


def test_a_graph_that_computes_something_else_is_not_used(caplog):
    module = Branches().eval()
    graph = build_graph(module, "torchscript", (torch.tensor([1.0, -1.0]),))
    assert graph.kind == "eager"
    assert graph(torch.tensor([-1.0, 1.0])).tolist() == [-3, 3]
    (message,) = caplog.messages
    assert message.startswith("graph_not_used kind=torchscript error=ArithmeticError: it is off")


def test_an_error_of_the_network_itself_is_not_hidden():
    with pytest.raises(RuntimeError, match="shape"):
        build_graph(nn.Linear(3, 3).eval(), "torchscript", (torch.zeros(2),))


def test_unknown_kinds_and_training_modules_are_refused():
    example = (torch.zeros(3),)
    with pytest.raises(ValueError, match=f"'onnx'; known: {', '.join(KINDS)}"):
        build_graph(nn.Identity().eval(), "onnx", example)
    with pytest.raises(ValueError, match="evaluation mode"):
        build_graph(nn.Dropout(), "torchscript", example)


# In a separate process: compilers are looked up only once, and all output can be checked.
IN_A_FRESH_PROCESS = """
import logging, sys, threading, torch
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="LOG %(name)s: %(message)s")
logging.captureWarnings(True)
from torch import nn
from torch.testing import assert_close
from torch._dynamo.utils import counters
from workers.pipeline.compile import build_graph

torch.manual_seed(0)
module = nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 2)).eval()
graph = build_graph(module, "compile", (torch.randn(3, 4),))
compiled = counters["stats"]["unique_graphs"]
x = torch.randn(4, 3).T[:, :1].expand(3, 4)  # other strides, and no inference tensor
got = []
got.append(graph(x))
thread = threading.Thread(target=lambda: got.append(graph(x)))
thread.start()
thread.join()
worst = max((y - module(x)).abs().max().item() for y in got)
print(graph.kind, len(got), worst < 1e-6, counters["stats"]["unique_graphs"] - compiled)
"""


def in_a_fresh_process(tmp_path, **environment):
    """Run the program. Returns its output and its log lines."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS],
        env=os.environ
        | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        | environment,
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip().splitlines()


@pytest.mark.parametrize("missing", ["PATH", pytest.param("CXX", marks=pytest.mark.slow)])
def test_without_a_compiler_one_line_is_logged_and_the_network_runs(tmp_path, missing):
    environment = {"PATH": ""} if missing == "PATH" else {"CXX": str(tmp_path / "no-compiler")}
    printed, logged = in_a_fresh_process(tmp_path, **environment)
    assert printed == "eager 2 True 0"
    (line,) = logged
    assert "graph_not_used kind=compile error=" in line


@pytest.mark.slow  # a C++ compiler's minutes where the machine is busy
@pytest.mark.timeout(900)
def test_one_compilation_serves_every_thread_and_stride(tmp_path):
    printed, logged = in_a_fresh_process(tmp_path)
    if "graph_not_used" in " ".join(logged):
        pytest.skip("no C++ compiler on this machine")
    assert printed == "compile 2 True 0"
    assert logged == []
