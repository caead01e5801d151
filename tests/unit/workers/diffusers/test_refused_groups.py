"""A profile for several GPUs that cannot be served: refused before any follower is started."""

import sys

import pytest
import torch

from app.config import profiles_file
from tests.support.toys import TOYS
from workers.engines.diffusers.checkpoint import open_checkpoint
from workers.engines.diffusers.leader import Leader
from workers.engines.diffusers.loading import load_pipeline, outline
from workers.engines.diffusers.members import Member
from workers.engines.diffusers.table import read_table
from workers.engines.diffusers.unusable import Unusable

FOLLOWER = "workers.engines.diffusers.follower"
ROWS = ', vae = "sharded"'
LORA = """

[[diffusers.lora]]
file = "lora.safetensors"
component = "{}"

[diffusers.call]"""


@pytest.fixture(scope="session")
def processes():
    """The commands of all processes that this one starts from now on."""
    found = []

    def note(event, given):
        if event == "subprocess.Popen":
            found.append(given[1])

    sys.addaudithook(note)  # for good: nobody can take one away
    return found


@pytest.fixture
def refused(place, load, processes):
    """Load a toy whose profile cannot be served; none of its followers is ever started."""

    def refused(name, sentence, **changes):
        before = len(processes)
        with pytest.raises(Unusable, match=sentence):
            load(place(name), **changes)
        assert not [each for each in processes[before:] if FOLLOWER in each]

    return refused


def test_a_started_follower_would_be_seen(place, tmp_path, processes):
    profile = profiles_file.read(place("wan22").profile(tmp_path))
    leader = Leader(profile, Member(0, 2, torch.device("cpu")))
    before = len(processes)
    leader.start()
    leader.stop(patience_s=0.0)
    assert [FOLLOWER in each for each in processes[before:]] == [True]


@pytest.mark.parametrize(
    ("name", "gpus", "sizes", "sentence"),
    [
        ("wan22", 3, ["64x64"], "4 attention heads are not divisible by 3"),
        ("wan22", 4, ["48x48"], "48x48 with 5 frames has 18 tokens, which 4 GPUs cannot share"),
        ("wan22", "2, guidance = true", ["64x64"], "number of GPUs and 2 passes, not for 2 and 1"),
        ("wan22-ti2v", "3, guidance = true", ["64x64"], "an even number of GPUs and 2 passes"),
        ("wan22-ti2v", "4, guidance = true", ["96x96"], "27 tokens, which 2 GPUs cannot share"),
        ("svd", "4, guidance = true", ["64x64"], "guidance of .* is for 2 GPUs, not for 4"),
        ("hunyuan15", 2, ["64x64"], "HunyuanVideo15ImageToVideoPipeline cannot be shared out"),
        ("hunyuan15", f"2{ROWS}", ["64x64"], "the VAE of Hunyuan.* cannot be shared out"),
        ("ltx", f"2{ROWS}", ["64x32"], "the VAE has 1 rows of 64x32, but 2 GPUs need 2"),
        ("ltx2", f"2{ROWS}", ["64x96"], "the VAE has 3 rows of 64x96, but 2 GPUs need 4"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(refused, name, gpus, sizes, sentence):
    table = ("first_frame", f"parallel = {{ gpus = {gpus} }}\nfirst_frame")
    side = max(map(int, sizes[0].split("x")))
    refused(name, sentence, sizes=sizes, default_size=side, table=table)


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("wan22", "first_frame", 'attention = "flash"\nfirst_frame', "'flash' cannot be used"),
        ("wan22", "first_frame", "scheduler_config = { shyft = 5.0 }\nfirst_frame", "no 'shyft'"),
        (
            "svd",
            "first_frame",
            'graphs = { transformer = "compile" }\nfirst_frame',
            "graphs: .* no",
        ),
        ("wan22", "\n[diffusers.call]", LORA.format("transformer"), "there is no file .*lora"),
        ("wan22", "\n[diffusers.call]", LORA.format("unet"), "lora: the checkpoint has no 'unet'"),
        ("wan22", "max_sequence_length", "max_length", "has no argument 'max_length'"),
    ],
)
def test_other_faults_of_its_profile_are_found_first(refused, name, old, new, sentence):
    own = TOYS[name].table
    assert old in own
    changed = own.replace(old, new, 1)
    changed = changed.replace("first_frame", "parallel = { gpus = 2 }\nfirst_frame", 1)
    refused(name, sentence, table=(own, changed))


@pytest.mark.parametrize("name", TOYS)
def test_an_outline_is_the_pipeline_without_its_numbers(place, tmp_path, name):
    table = read_table(profiles_file.read(place(name).profile(tmp_path)))
    checkpoint = open_checkpoint(tmp_path / name, table.variant)
    lines, whole = outline(checkpoint, table), load_pipeline(checkpoint, table)
    assert type(lines) is type(whole) and lines.components.keys() == whole.components.keys()
    for part in checkpoint.parts:
        drawn = dict(getattr(lines, part).named_parameters())
        assert all(each.is_meta for each in drawn.values())
        for key, loaded in getattr(whole, part).named_parameters():
            assert drawn[key].shape == loaded.shape
