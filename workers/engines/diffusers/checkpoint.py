"""A checkpoint in a folder, as published: its parts, their weight files, what is wrong with it.

Everything here is read before a tensor is: loading a large model takes minutes.
"""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from app.domain.job.profiles import Profile
from workers.engines.diffusers.headers import BYTES, PLAIN_FLOATS, Tensor, read_header
from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable, shorten

INDEX = "model_index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
STEMS = ("diffusion_pytorch_model", "model")  # of diffusers' and of transformers' weights
DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
READ_AT_ONCE = 1 << 22
HASHERS = 8


@dataclass(frozen=True)
class Part:
    """A component of the pipeline that has weights."""

    name: str
    files: tuple[Path, ...]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name. Raises Unusable."""
        return {name: tensor for path in self.files for name, tensor in read_header(path).items()}

    def loaded_bytes(self, float_bytes: int) -> int:
        """The memory that the weights take as numbers of `float_bytes` bytes."""
        return sum(
            tensor.count * (float_bytes if tensor.is_float else BYTES.get(tensor.dtype, 8))
            for tensor in self.tensors.values()
        )


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    index: dict[str, Any]  # model_index.json
    parts: dict[str, Part]

    @property
    def version(self) -> str:
        """Changes with every weight file: a digest of their names, sizes and tensors."""
        digest = hashlib.sha256()
        for part in self.parts.values():
            for path in part.files:
                place = path.relative_to(self.folder).as_posix()
                digest.update(f"{place} {path.stat().st_size}\n".encode())
            digest.update(repr(sorted(part.tensors.items())).encode())
        return digest.hexdigest()[:12]

    def weight_files(self) -> list[Path]:
        return [path for part in self.parts.values() for path in part.files]

    def weight_bytes(self, table: DiffusersTable) -> dict[str, int]:
        """The memory of each part in the profile's types."""
        return {
            name: part.loaded_bytes(DTYPE_BYTES[table.dtype_of(name)])
            for name, part in self.parts.items()
        }


def open_checkpoint(folder: Path, variant: str | None) -> Checkpoint:
    """Read a folder's index and the headers of its weights. Raises Unusable."""
    index_path = folder / INDEX
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unusable(f"Cannot read {index_path}: {error.strerror}.") from None
    except ValueError:
        raise Unusable(f"{index_path} is not JSON.") from None
    if not isinstance(index, dict):
        raise Unusable(f"{index_path} is not a JSON object.")
    parts = {}
    for name in component_classes(index):
        if files := _weight_files(folder / name, variant):
            parts[name] = Part(name, files)
    if not parts:
        raise Unusable(f"{folder} holds no safetensors weights.")
    for part in parts.values():
        _refuse_foreign_numbers(folder, part)
    return Checkpoint(folder, index, parts)


def component_classes(index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The library and the class of each component that the pipeline has."""
    return {
        name: (str(value[0]), str(value[1]))
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and None not in value
    }


def _weight_files(folder: Path, variant: str | None) -> tuple[Path, ...]:
    """The weight files that the libraries load from a component's folder; none: it has none."""
    if not folder.is_dir():
        return ()
    dot = f".{variant}" if variant else ""
    for stem in STEMS:
        index = folder / f"{stem}.safetensors.index{dot}.json"
        if index.is_file():
            return _shards(index)
        single = folder / f"{stem}{dot}.safetensors"
        if single.is_file():
            return (single,)
    if any(path.suffix == ".safetensors" for path in folder.iterdir()):
        kind = f"of the variant {variant!r}" if variant else "without a variant"
        raise Unusable(f"{folder} holds no weights {kind}.")
    if any(path.suffix in PICKLES for path in folder.iterdir()):
        raise Unusable(
            f"{folder} holds its weights as a pickle, which can run code when it is read; convert"
            " them to safetensors."
        )
    return ()


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        raise Unusable(f"{index} is not an index of weight files.") from None
    if wrong := sorted(name for name in names if Path(name).name != name):
        raise Unusable(f"{index} names {wrong[0]!r}, which is outside its folder.")
    files = tuple(index.parent / name for name in sorted(names))
    if missing := [path.name for path in files if not path.is_file()]:
        raise Unusable(f"{index.parent} lacks {shorten(missing)}.")
    return files


def _refuse_foreign_numbers(folder: Path, part: Part) -> None:
    """Eight-bit numbers without their scales load as plain ones, and make noise."""
    config = folder / part.name / "config.json"
    if config.is_file() and '"quantization_config"' in config.read_text(encoding="utf-8"):
        return
    strange = sorted({each.dtype for each in part.tensors.values() if each.is_float} - PLAIN_FLOATS)
    if strange:
        raise Unusable(
            f"{part.name} stores {shorten(strange)}, but its config.json has no"
            " quantization_config to say how they are scaled."
        )


def check_licence(profile: Profile) -> None:
    """Raises Unusable if nobody has accepted a licence with limits."""
    if profile.licence_limits and not profile.licence_accepted_by.strip():
        raise Unusable(
            f"{profile.name}: nobody has accepted the licence {profile.licence}"
            f" ({profile.licence_limits}); set licence_accepted_by."
        )


def check_sums(checkpoint: Checkpoint, expected: dict[str, str]) -> None:
    """Compare files with the profile's SHA-256 sums; no sums: nothing to compare.

    Raises Unusable for another sum, and for a weight file without one.
    """
    if not expected:
        return
    folder = checkpoint.folder
    given = {folder / name for name in expected}
    if free := [path for path in checkpoint.weight_files() if path not in given]:
        names = [path.relative_to(folder).as_posix() for path in free]
        raise Unusable(f"sha256 lacks {shorten(names)}.")
    for name, digest in sums(folder, expected):
        if digest != expected[name]:
            raise Unusable(f"{folder / name} is not the file of the profile: its SHA-256 differs.")


def sums(folder: Path, names: Iterable[str]) -> list[tuple[str, str]]:
    """SHA-256 sums of files in a folder. Raises Unusable for a file that cannot be read."""

    def digest(name: str) -> tuple[str, str]:
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.sha256()
                while block := file.read(READ_AT_ONCE):
                    found.update(block)
        except OSError as error:
            raise Unusable(f"Cannot read {folder / name}: {error.strerror}.") from None
        return name, found.hexdigest()

    with ThreadPoolExecutor(HASHERS) as pool:  # hashing lets other threads run
        return list(pool.map(digest, names))
