"""What diffusers lets through without an error, and what the engine says instead.

TRAPS is the list: each sets a trap in a real toy checkpoint or its profile, and names the refusal.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.config.settings import ConfigError
from tests.support.toys import TOYS
from workers.engines.diffusers import loras
from workers.engines.diffusers.table import Lora
from workers.engines.diffusers.unusable import Unusable

NETWORK = "transformer/diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Trap:
    name: str
    toy: str
    sentence: str  # a regular expression
    set: Callable = lambda folder: None  # gets the checkpoint's folder
    changes: dict | None = None  # of the profile
    table: tuple[str, str] | None = None  # (old, new) in the profile's table
    extra: str = ""  # at the end of the table
    at: str = "load"  # or warm_up

    def __str__(self):
        return self.name


def change_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file({name: each.contiguous() for name, each in tensors.items()}, path)


def drop_tensor(part=NETWORK, name="proj_out.bias"):
    return lambda folder: change_tensors(folder / part, lambda tensors: tensors.pop(name))


def add_tensor(folder):
    change_tensors(folder / NETWORK, lambda tensors: tensors.update(extra=torch.zeros(2)))


def change_shape(folder):
    def change(tensors):
        tensors["proj_out.bias"] = torch.zeros(tensors["proj_out.bias"].numel() + 1)

    change_tensors(folder / NETWORK, change)


def cut_short(folder):
    path = folder / NETWORK
    path.write_bytes(path.read_bytes()[:-10])


def as_pickle(folder):
    path = folder / NETWORK
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


def lose_shard(folder):
    path = folder / NETWORK
    names = dict.fromkeys(load_file(path), "diffusion_pytorch_model-00001-of-00001.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    path.with_suffix(".safetensors.index.json").write_text(json.dumps(index))


def as_eight_bits(folder):
    def change(tensors):
        for name, tensor in tensors.items():
            tensors[name] = tensor.to(torch.float8_e4m3fn)

    change_tensors(folder / NETWORK, change)


def foreign_part(folder):
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["our_tricks", "Network"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "our_tricks.py").write_text("raise SystemExit('code of the checkpoint ran')")


def foreign_tokenizer(folder):
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["our_tricks", "Tokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))


def strange_lora(folder):
    weights = {"transformer.other.lora_A.weight": torch.ones(2, 48)}
    weights["transformer.other.lora_B.weight"] = torch.ones(48, 2)
    save_file(weights, folder.parent / "lora.safetensors")


def half_strange_lora(folder):
    write_lora(folder.parent / "lora.safetensors", extra="blocks.7.attn1.to_q")


def write_lora(path, extra=None, scale=1.0, layer="blocks.0.attn1.to_q", width=48):
    weights = {}
    torch.manual_seed(1)
    for name in [layer, *([extra] if extra else [])]:
        weights[f"transformer.{name}.lora_A.weight"] = torch.randn(2, width)
        weights[f"transformer.{name}.lora_B.weight"] = scale * torch.randn(width, 2)
    save_file(weights, path)


LORA = '\n[[diffusers.lora]]\nfile = "lora.safetensors"\ncomponent = "transformer"\n'
NAN = ("first_frame", "first_frame")

TRAPS = [
    Trap("a tensor is missing", "wan22", r"transformer lacks proj_out\.bias\.", drop_tensor()),
    Trap(
        "a tensor of the text encoder is missing",
        "wan22",
        r"text_encoder lacks encoder\.final_layer_norm\.weight\.",
        drop_tensor("text_encoder/model.safetensors", "encoder.final_layer_norm.weight"),
    ),
    Trap("a tensor is superfluous", "wan22", r"transformer has no use for extra\.", add_tensor),
    Trap("a tensor has another shape", "wan22", r"transformer.*proj_out\.bias", change_shape),
    Trap("a file is cut short", "wan22", r"is cut short: \d+ bytes instead of \d+\.", cut_short),
    Trap("weights are a pickle", "wan22", r"as a pickle, which can run code", as_pickle),
    Trap("a shard is missing", "wan22", r"lacks diffusion_pytorch_model-00001", lose_shard),
    Trap("weights have eight bits", "wan22", r"stores F8_E4M3, but.*no quant", as_eight_bits),
    Trap("a part is foreign", "wan22", r"transformer is of 'our_tricks'; only", foreign_part),
    Trap("a tokenizer is foreign", "wan22", r"WanImageToVideo.* made of", foreign_tokenizer),
    Trap(
        "a LoRA fits nowhere",
        "wan22",
        r"lora: (nothing in lora\.safetensors fits|.* cannot be loaded)",
        strange_lora,
        table=("\n[diffusers.call]", f"{LORA}\n[diffusers.call]"),
    ),
    Trap(
        "half of a LoRA fits nowhere",
        "wan22",
        r"no place for blocks\.7\.attn1\.to_q\.lora_A|cannot be loaded",
        half_strange_lora,
        table=("\n[diffusers.call]", f"{LORA}\n[diffusers.call]"),
    ),
    Trap(
        "a LoRA is not there",
        "wan22",
        r"lora: there is no file .*lora\.safetensors",
        table=("\n[diffusers.call]", f"{LORA}\n[diffusers.call]"),
    ),
    Trap(
        "a LoRA is a pickle",
        "wan22",
        r"file must be \.safetensors",
        table=("\n[diffusers.call]", f"{LORA.replace('safetensors', 'bin')}\n[diffusers.call]"),
    ),
    Trap(
        "the class makes clips of text",
        "wan22",
        r"WanPipeline makes clips of text alone",
        table=("WanImageToVideoPipeline", "WanPipeline"),
    ),
    Trap(
        "the class is none of the library's",
        "wan22",
        r"has no pipeline WonPipeline",
        table=("WanImageToVideoPipeline", "WonPipeline"),
    ),
    Trap(
        "the schedule has another length",
        "wan22",
        r"sigmas has 4 values, but the profile has 5 steps",
        changes={"steps": 5},
    ),
    Trap(
        "the schedule does not fall",
        "wan22",
        r"sigmas must fall",
        table=("0.9375, 0.8333", "0.8333, 0.9375"),
    ),
    Trap(
        "the pipeline skips a part of the schedule",
        "ltx-condition",
        r"The (network was told|pipeline made)",
        extra="denoise_strength = 0.5\n",
        at="warm_up",
    ),
    Trap(
        "the scheduler takes no levels",
        "cogvideox",
        r"CogVideoXDDIMScheduler cannot take any",
        table=("first_frame", "sigmas = [1.0, 0.8, 0.5, 0.2]\nfirst_frame"),
    ),
    Trap(
        "the scheduler has no such setting",
        "wan22",
        r"scheduler_config: FlowMatchEulerDiscreteScheduler has no 'shyft'",
        table=("first_frame", "scheduler_config = { shyft = 5.0 }\nfirst_frame"),
    ),
    Trap(
        "frames would be rounded",
        "ltx",
        r"rounds to 8k \+ 1, but the profile allows 4k \+ 1",
        changes={"frames_multiple": 4, "min_frames": 5},
    ),
    Trap(
        "sides would be rounded",
        "wan22-ti2v",
        r"multiples of 32, not 80x64",
        changes={"sizes": ["64x64", "80x64"]},
    ),
    Trap(
        "the last picture is ignored",
        "wan22-ti2v",
        r"ignores last_image",
        changes={"honours": ["prompt", "loop"]},
        table=("first_frame", 'loop = "last_image"\nfirst_frame'),
    ),
    Trap(
        "the last picture would fail",
        "wan21",
        r"knows first pictures only",
        changes={"honours": ["prompt", "loop"]},
        table=("first_frame", 'loop = "last_image"\nfirst_frame'),
    ),
    Trap(
        "there is no last picture",
        "ltx",
        r"has no argument 'last_image'",
        changes={"honours": ["prompt", "loop"]},
        table=("first_frame", 'loop = "last_image"\nfirst_frame'),
    ),
    Trap(
        "a prompt would be ignored",
        "svd",
        r"StableVideoDiffusionPipeline takes no prompt",
        changes={"honours": ["motion", "prompt"]},
    ),
    Trap(
        "a negative prompt would be ignored",
        "svd",
        r"StableVideoDiffusionPipeline takes no negative prompt",
        changes={"honours": ["motion", "negative_prompt"]},
    ),
    Trap(
        "types of numbers do not mix",
        "svd",
        r"needs one type for all its parts, not image_encoder bf16, unet bf16, vae fp32",
        table=('{ default = "fp32" }', '{ default = "bf16", vae = "fp32" }'),
    ),
    Trap(
        "a type is for no part",
        "svd",
        r"the checkpoint has no 'transformer'",
        table=('{ default = "fp32" }', '{ default = "fp32", transformer = "bf16" }'),
    ),
    Trap(
        "it does not fit",
        "wan22",
        r"Needs \d+\.\d GiB on cpu, 0\.0 of it for weights .* are free",
        table=("activations_gib = 0.1", "activations_gib = 100000"),
    ),
    Trap(
        "a checksum differs",
        "svd",
        r"unet/diffusion_pytorch_model\.safetensors is not the file of the profile",
        extra="\n[diffusers.sha256]\n"
        + "".join(
            f'"{name}" = "{"0" * 64}"\n'
            for name in (
                "unet/diffusion_pytorch_model.safetensors",
                "vae/diffusion_pytorch_model.safetensors",
                "image_encoder/model.safetensors",
            )
        ),
    ),
    Trap(
        "a file has no checksum",
        "wan22",
        r"sha256 lacks .*transformer_2",
        extra=f'\n[diffusers.sha256]\n"{NETWORK}" = "{"0" * 64}"\n',
    ),
    Trap(
        "masks where attention takes none",
        "ltx",
        r"'_native_flash' takes no masks, and LTXImageToVideoPipeline always",
        table=("first_frame", 'attention = "_native_flash"\nfirst_frame'),
    ),
    Trap(
        "attention is not installed",
        "wan22",
        r"attention: 'flash' cannot be used",
        table=("first_frame", 'attention = "flash"\nfirst_frame'),
    ),
    Trap(
        "an argument is unknown",
        "wan22",
        r"has no argument 'guidence'",
        extra="guidence = 1.0\n",
    ),
    Trap(
        "an argument is the engine's",
        "wan22",
        r"call: num_frames is set by the engine",
        extra="num_frames = 81\n",
    ),
    Trap(
        "guidance was left on",
        "ltx",
        r"passes is 1, but LTXImageToVideoPipeline was guided",
        table=("guidance_scale = 1.0", "guidance_scale = 3.0"),
        at="warm_up",
    ),
    Trap(
        "a licence was not accepted",
        "wan22",
        r"nobody has accepted the licence Apache-2\.0 \(not on Sundays\)",
        changes={"licence_limits": "not on Sundays"},
    ),
    Trap(
        "a repository was not fetched",
        "wan22",
        r"someone/model at 0{40} is not on this machine; run .* fetch wan22",
        table=('folder = "wan22"', f'hub = "someone/model"\nrevision = "{"0" * 40}"'),
    ),
    Trap("an unknown key", "wan22", r"unknown key 'sigma'", table=("sigmas", "sigma")),
]


def test_traps_have_names_of_their_own():
    assert len({trap.name for trap in TRAPS}) == len(TRAPS)


@pytest.mark.parametrize("trap", TRAPS, ids=str)
def test_it_is_refused_in_one_sentence(trap, place, load, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    toy = place(trap.toy)
    trap.set(tmp_path / trap.toy)
    with pytest.raises((Unusable, ConfigError), match=trap.sentence):
        engine = load(toy, extra=trap.extra, table=trap.table, **trap.changes or {})
        assert trap.at == "warm_up", "it was loaded"
        engine.warm_up()


def test_a_second_expert_that_lost_its_lora_is_noticed(place, load, tmp_path):
    """`fuse_lora` fuses the first network only, unless it is told."""
    pipe = load(place("wan22"))._pipe
    write_lora(tmp_path / "lora.safetensors")
    lora = Lora(file="lora.safetensors", component="transformer_2")
    loras.load_lora(pipe, lora, tmp_path / "lora.safetensors", "it")
    change = loras._expected_change(pipe.transformer_2, "transformer_2", [(lora, "it")])
    pipe.fuse_lora(adapter_names=["it"])
    pipe.unload_lora_weights()
    with pytest.raises(Unusable, match=r"transformer_2 lost its LoRA while it was fused"):
        loras.check_fused(pipe.transformer_2, "transformer_2", change)


def test_every_family_has_a_toy():
    assert len(TOYS) >= 8
