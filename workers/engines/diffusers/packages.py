"""Packages of AOTInductor: compiled blocks in a directory, and what they need to be right.

    packages.json   the versions, the processor and the profile that they were compiled for
    0.pt2, 1.pt2    one for each kind of block and shape; it serves every block of the kind

The weights are not in them: a package computes with those of the block that it is loaded for. So a
LoRA, or other weights of the same network, need no new packages. Packages are machine code, and
whoever can write the directory can run anything in a worker.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch

from workers.engines.diffusers.flat_calls import Key, Mismatch, shapes_of
from workers.engines.diffusers.table import DiffusersTable

MANIFEST = "packages.json"
MAX_MANIFEST = 16_000_000  # bytes
FORMAT = 1
ALIGNED = 16  # bytes; kernels read that many at once

MODEL = "model"  # what `aoti_compile_and_package` calls the one in a package
RUNNERS = 1  # calls at a time

# Instructions that a compiler uses unasked. Others of /proc/cpuinfo say nothing about its code.
VECTOR_FLAGS = ("sse", "ssse", "avx", "fma", "bmi", "abm", "popcnt", "f16c", "movbe", "amx")


@dataclass(frozen=True)
class Needs:
    """What packages depend on besides shapes."""

    torch: str
    diffusers: str
    device: str  # cpu x86_64, or cuda 9.0
    instructions: tuple[str, ...]  # of the CPU
    profile: str  # digest of what the profile and the checkpoint say about the networks

    def unmet(self, here: "Needs") -> str | None:
        """Why packages with these needs do not run here; None if they do."""
        for name in ("torch", "diffusers", "device"):
            built, found = getattr(self, name), getattr(here, name)
            if built != found:
                return f"the packages are for {name} {built}, this is {found}"
        if lacking := sorted(set(self.instructions) - set(here.instructions)):
            return f"the packages need a CPU with {', '.join(lacking)}"
        if self.profile != here.profile:
            return "the packages are for another state of the profile or the checkpoint"
        return None


@dataclass(frozen=True)
class Package:
    """A compiled block."""

    component: str
    block: str  # the class
    call: str  # the key of the calls that it serves
    file: str
    sha256: str


def needs(pipe: Any, table: DiffusersTable) -> Needs:
    """What packages that are compiled here need."""
    networks = {name: getattr(pipe, name) for name, kind in table.graphs.items() if kind == "aoti"}
    device = next(each.device for net in networks.values() for each in net.parameters())
    return Needs(
        torch.__version__,
        diffusers.__version__,
        _device(device),
        instructions() if device.type == "cpu" else (),
        _digest(networks, table),
    )


def _device(device: torch.device) -> str:
    if device.type == "cpu":
        return f"cpu {platform.machine()}"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{device.type} {major}.{minor}"


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Instruction sets of this CPU, as far as compiled code may use them."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return (torch.backends.cpu.get_cpu_capability(),)
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "Features":  # ARM lists no others
            return tuple(sorted(value.split()))
        if name.strip() == "flags":
            return tuple(sorted(flag for flag in value.split() if flag.startswith(VECTOR_FLAGS)))
    return (torch.backends.cpu.get_cpu_capability(),)


def _digest(networks: dict[str, Any], table: DiffusersTable) -> str:
    """Of what shapes the graphs. Fused LoRAs do not: they are in the weights."""
    facts = {
        "pipeline": table.pipeline,
        "dtype": {name: table.dtype_of(name) for name in networks},
        "attention": table.attention,
        "lora": [lora.model_dump() for lora in table.lora if not lora.fuse],
        "networks": {name: description(net) for name, net in networks.items()},
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def description(network: Any) -> dict[str, Any]:
    """The class and configuration; names with a line in front say where it was loaded from."""
    config = network.config
    given = dict(config) if isinstance(config, Mapping) else config.to_dict()
    kept = {name: value for name, value in given.items() if not name.startswith("_")}
    return {"class": type(network).__name__, **kept}


@dataclass(frozen=True)
class Packages:
    """Packages that may be used here."""

    folder: Path
    needs: Needs
    packages: tuple[Package, ...]

    def maker(self, component: str) -> Callable[..., Any]:
        """A function that loads the package for a block of the component and calls of a key.

        It raises Mismatch if there is none.
        """
        known = {
            (each.block, each.call): each for each in self.packages if each.component == component
        }
        checked: set[str] = set()

        def make(
            block: torch.nn.Module, _forward: Any, key: Key, tensors: list[torch.Tensor]
        ) -> Callable[[list[torch.Tensor]], Any]:
            package = known.get((type(block).__name__, call_of(key)))
            if package is None:
                raise Mismatch(f"no package for {shapes_of(tensors)}")
            path = self.folder / package.file
            if package.file not in checked:
                if digest_of(path) != package.sha256:
                    raise ValueError(f"{path} is not the file that was built")
                checked.add(package.file)
            return LoadedBlock(path, block, tensors)

        return make


class LoadedBlock:
    """A package with the weights of one block. Call it with the tensors of a call."""

    def __init__(self, path: Path, block: torch.nn.Module, tensors: list[torch.Tensor]):
        # Without it a package computes nonsense for other shapes, and says nothing.
        os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"
        device = tensors[0].device
        index = -1 if device.index is None else device.index
        # Not `aoti_load_package`, which imports half of the compiler: as long as a clip of a toy.
        self._loader = torch._C._aoti.AOTIModelPackageLoader(
            str(path), MODEL, False, RUNNERS, index
        )
        self._strides = [plain_strides(each.shape) for each in tensors]
        self._slots = _slots(block, self._loader.get_constant_fqns())
        self._weights: list[torch.Tensor] = []
        self._places: list[int] = []
        self._take_weights()

    def __call__(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """The block's tensors. Raises RuntimeError for another shape than it was compiled for."""
        if [owner[name].data_ptr() for _, owner, name in self._slots] != self._places:
            self._take_weights()  # somebody has put others in their place
        given = [plain(each, strides) for each, strides in zip(tensors, self._strides, strict=True)]
        found: list[torch.Tensor] = self._loader.boxed_run(given)
        return found

    def _take_weights(self) -> None:
        self._weights = [owner[name] for _, owner, name in self._slots]  # it has only their address
        self._places = [each.data_ptr() for each in self._weights]
        names = [constant for constant, _, _ in self._slots]
        given = {name: each.detach() for name, each in zip(names, self._weights, strict=True)}
        self._loader.load_constants(
            given, use_inactive=False, check_full_update=True, user_managed=True
        )


def _slots(block: torch.nn.Module, constants: list[str]) -> list[tuple[str, Any, str]]:
    """Where a block has the tensor of each constant: (constant, dictionary, name)."""
    found = []
    for constant in constants:
        path, _, name = constant.removeprefix("block.").rpartition(".")
        module = block.get_submodule(path)
        owner = module._parameters if name in module._parameters else module._buffers
        found.append((constant, owner, name))
    return found


def plain_strides(shape: torch.Size) -> tuple[int, ...]:
    """Strides of a tensor without gaps, of dimensions of size 1, too."""
    strides = [1]
    for side in reversed(shape[1:]):
        strides.append(strides[-1] * side)
    return tuple(reversed(strides)) if len(shape) else ()


def plain(tensor: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """The tensor as packages want it: with these strides, and aligned. A copy if it is not."""
    if tensor.stride() == strides and tensor.data_ptr() % ALIGNED == 0:
        return tensor
    made = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device)
    return made.copy_(tensor)


def call_of(key: Key) -> str:
    """A call's key as text, for the manifest."""
    return repr(key)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_packages(folder: Path | None, pipe: Any, table: DiffusersTable) -> Packages | str:
    """The packages in a directory, or why they cannot be used."""
    if folder is None or not (folder / MANIFEST).is_file():
        return "no packages: run `python -m workers.models compile` for this profile"
    try:
        found = read_manifest(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{folder / MANIFEST} cannot be read"
    return found.needs.unmet(needs(pipe, table)) or found


def read_manifest(folder: Path) -> Packages:
    """Raises OSError, and ValueError, TypeError, KeyError or AttributeError for another content."""
    path = folder / MANIFEST
    if path.stat().st_size > MAX_MANIFEST:
        raise ValueError(path)
    read = json.loads(path.read_text(encoding="utf-8"))
    if read["format"] != FORMAT:
        raise ValueError(path)
    given = Needs(**read["needs"])
    packages = tuple(Package(**each) for each in read["packages"])
    if any(Path(each.file).name != each.file for each in packages):
        raise ValueError(path)
    return Packages(folder, replace(given, instructions=tuple(given.instructions)), packages)


def write_manifest(packages: Packages) -> None:
    content = {
        "format": FORMAT,
        "needs": asdict(packages.needs),
        "packages": [asdict(each) for each in packages.packages],
    }
    (packages.folder / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")
