"""Builds the pipeline of a checkpoint: every part by its own class, and every tensor accounted for.

The libraries load a checkpoint that lacks tensors, or has others, with a line in the log, and leave
the missing ones empty. Here each part is loaded on its own, because only then do they say so.
"""

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from diffusers import DiffusionPipeline

from workers.engines.diffusers.checkpoint import Checkpoint, Part, component_classes
from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable, shorten

# The only libraries whose classes a checkpoint may name: its files choose, but bring no code.
LIBRARIES = {"diffusers": diffusers, "transformers": transformers}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# Pipelines that pass numbers of one part to another as they are.
ONE_TYPE_ONLY = ("StableVideoDiffusion", "LTX", "CogVideoX")
DENOISERS = ("transformer", "transformer_2", "unet")

Make = Callable[[Checkpoint, Part, DiffusersTable], torch.nn.Module]


# What they log is checked here, and raised.
for _library in (diffusers, transformers):
    _library.utils.logging.set_verbosity_error()
    _library.utils.logging.disable_progress_bar()


def pipeline_class(name: str) -> type[Any]:
    """The class of a pipeline that animates a picture. Raises Unusable."""
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, DiffusionPipeline)):
        raise Unusable(f"pipeline: diffusers {diffusers.__version__} has no pipeline {name}.")
    if "image" not in inspect.signature(found.__call__).parameters:
        raise Unusable(
            f"pipeline: {name} makes clips of text alone; name the class that takes a picture."
        )
    return found


def load_pipeline(checkpoint: Checkpoint, table: DiffusersTable) -> Any:
    """The pipeline with all its parts on the CPU. Raises Unusable."""
    return _assemble(checkpoint, table, _load_part)


def outline(checkpoint: Checkpoint, table: DiffusersTable) -> Any:
    """The pipeline with networks that hold no numbers: classes, configurations and shapes.

    Takes a second where loading takes minutes. Raises Unusable.
    """
    return _assemble(checkpoint, table, _outline_part)


def _assemble(checkpoint: Checkpoint, table: DiffusersTable, make: Make) -> Any:
    cls = pipeline_class(table.pipeline)
    check_types(cls, checkpoint, table)
    parts = {name: make(checkpoint, part, table) for name, part in checkpoint.parts.items()}
    try:
        pipe = cls.from_pretrained(
            checkpoint.folder, local_files_only=True, use_safetensors=True, **parts
        )
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise Unusable(
            f"{table.pipeline} cannot be made of {checkpoint.folder}: {error}"
        ) from error
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            if name not in parts:
                raise Unusable(f"{checkpoint.folder / name} holds no safetensors weights.")
            part.eval().requires_grad_(False)
    return pipe


def check_types(cls: type[Any], checkpoint: Checkpoint, table: DiffusersTable) -> None:
    """Raises Unusable for types of numbers that the pipeline cannot mix, or of unknown parts."""
    if unknown := sorted(set(table.dtype) - {"default", *checkpoint.parts}):
        raise Unusable(f"dtype: the checkpoint has no {unknown[0]!r}.")
    types = {name: table.dtype_of(name) for name in checkpoint.parts}
    if len(set(types.values())) > 1 and cls.__name__.startswith(ONE_TYPE_ONLY):
        mixture = ", ".join(f"{name} {dtype}" for name, dtype in sorted(types.items()))
        raise Unusable(f"dtype: {cls.__name__} needs one type for all its parts, not {mixture}.")


def _load_part(checkpoint: Checkpoint, part: Part, table: DiffusersTable) -> torch.nn.Module:
    cls = _class_of(checkpoint, part.name)
    dtype = DTYPES[table.dtype_of(part.name)]
    given: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    if table.variant is not None:
        given["variant"] = table.variant
    # transformers deprecates the name that diffusers documents.
    given["torch_dtype" if issubclass(cls, diffusers.ModelMixin) else "dtype"] = dtype
    folder = checkpoint.folder / part.name
    try:
        loaded: tuple[torch.nn.Module, dict[str, Any]] = cls.from_pretrained(
            folder, output_loading_info=True, **given
        )
    except (OSError, ValueError, RuntimeError, TypeError, ImportError) as error:
        raise Unusable(f"{folder} cannot be loaded as {cls.__name__}: {error}") from error
    model, info = loaded
    check_tensors(part.name, model, info)
    _check_numbers(part.name, model, dtype)
    return model


def _outline_part(checkpoint: Checkpoint, part: Part, _table: DiffusersTable) -> torch.nn.Module:
    cls = _class_of(checkpoint, part.name)
    folder = checkpoint.folder / part.name
    try:
        with init_empty_weights():
            if issubclass(cls, diffusers.ModelMixin):
                config = cls.load_config(folder, local_files_only=True)
                made: torch.nn.Module = cls.from_config(config)
            else:
                made = cls(cls.config_class.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, RuntimeError, TypeError, ImportError) as error:
        raise Unusable(f"{folder} cannot be loaded as {cls.__name__}: {error}") from error
    return made


def _class_of(checkpoint: Checkpoint, name: str) -> type[Any]:
    """The class that model_index.json names for a part. Raises Unusable."""
    library, class_name = component_classes(checkpoint.index)[name]
    home: Any = LIBRARIES.get(library) or getattr(diffusers.pipelines, library, None)
    if not isinstance(home, ModuleType):
        allowed = " and ".join(LIBRARIES)
        raise Unusable(f"model_index.json: {name} is of {library!r}; only {allowed} are allowed.")
    found = getattr(home, class_name, None)
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        version = f"{library} {getattr(home, '__version__', diffusers.__version__)}"
        raise Unusable(f"model_index.json: {version} has no {class_name}, which {name} is.")
    return found


def check_tensors(name: str, model: torch.nn.Module, info: Mapping[str, Any]) -> None:
    """Every tensor of the network came from the file, and every tensor of the file is in use.

    `info`: what the library says about its loading. Raises Unusable.
    """
    wrong = (
        ("missing_keys", f"{name} lacks"),
        ("unexpected_keys", f"{name} has no use for"),
        ("mismatched_keys", f"{name} has other shapes for"),
    )
    for key, sentence in wrong:
        if found := sorted(map(_key_name, info.get(key) or ())):
            raise Unusable(f"{sentence} {shorten(found)}.")
    if empty := [key for key, tensor in _tensors(model) if tensor.is_meta]:
        raise Unusable(f"{name} lacks {shorten(empty)}.")


def _key_name(key: Any) -> str:
    return key if isinstance(key, str) else str(key[0])


def _tensors(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _check_numbers(name: str, model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Parameters have the type that the profile asks for, but for those that must stay fp32."""
    allowed = {dtype}
    if getattr(model, "_keep_in_fp32_modules", None):
        allowed.add(torch.float32)
    found = {each.dtype for each in model.parameters() if each.is_floating_point()}
    if strange := found - allowed:
        raise Unusable(f"dtype: {name} was loaded as {shorten(sorted(map(str, strange)))}.")


def denoisers(pipe: Any) -> list[torch.nn.Module]:
    """The networks that are asked at every step."""
    found = [getattr(pipe, name, None) for name in DENOISERS]
    return [network for network in found if isinstance(network, torch.nn.Module)]
