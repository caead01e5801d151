"""Model directories: config.json and one safetensors file per network, checked before use.

A directory holds up to two networks of one architecture: the teacher, and the student distilled
from it.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from workers.pipeline.denoiser import DenoiserConfig, MotionDenoiser
from workers.pipeline.errors import CheckpointError
from workers.pipeline.layered_denoiser import LayeredDenoiser

CONFIG_FILE = "config.json"
TEACHER, STUDENT = "teacher", "student"
# Modules that were renamed after checkpoints had been published: the name in the file, and today's.
RENAMED = {"see.": "picture_encoder."}
Network = MotionDenoiser | LayeredDenoiser


@dataclass(frozen=True)
class Sampling:
    """How one network is sampled, unless a job says otherwise."""

    steps: int
    guided: bool  # three passes per step, or one
    order: int  # of the solver
    schedule: str = "log-snr"
    picture_scale: float = 1.0
    text_scale: float = 1.0
    rescale: float = 0.0


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a model except its weights."""

    name: str
    version: str
    network: DenoiserConfig
    vocabulary: list[str]  # the words of the training captions
    motion_scale: float  # half sides per unit of the network's displacements
    sampling: dict[str, Sampling] = field(default_factory=dict)  # by network
    # The same of a layered motion: camera, body, what is soft in background and subject.
    layer_scales: tuple[float, ...] = ()


def save_config(directory: Path, config: ModelConfig) -> None:
    """Write config.json atomically."""
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / CONFIG_FILE, (json.dumps(asdict(config), indent=1) + "\n").encode())


def save_weights(directory: Path, name: str, weights: dict[str, Tensor]) -> None:
    """Write <name>.safetensors in bf16, atomically."""
    directory.mkdir(parents=True, exist_ok=True)
    half = {key: value.to(torch.bfloat16).contiguous() for key, value in weights.items()}
    _write(directory / f"{name}.safetensors", safetensors.torch.save(half))


def load_config(directory: Path) -> ModelConfig:
    """Read config.json. Raises CheckpointError."""
    file = directory / CONFIG_FILE
    try:
        fields = json.loads(file.read_text())
        network = fields.pop("network")
        network = DenoiserConfig(**{**network, "channels": tuple(network["channels"])})
        sampling = {name: Sampling(**given) for name, given in fields.pop("sampling").items()}
        scales = tuple(fields.pop("layer_scales", ()))
        return ModelConfig(network=network, sampling=sampling, layer_scales=scales, **fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error


def network_of(config: DenoiserConfig) -> Network:
    """A network of this shape, untrained. Raises ValueError if there is none."""
    return LayeredDenoiser(config) if config.layers else MotionDenoiser(config)


def load_network(
    directory: Path, name: str, config: ModelConfig, dtype: torch.dtype, device: str
) -> Network:
    """Read <name>.safetensors. Raises CheckpointError, which names the file and the key."""
    file = directory / f"{name}.safetensors"
    try:
        network = network_of(config.network)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{directory / CONFIG_FILE} does not describe a network: {error}."
        ) from error
    expected = network.state_dict()
    weights = with_current_names(_read_weights(file))
    for key, tensor in expected.items():
        if key not in weights:
            raise CheckpointError(f"{file} lacks the tensor {key}.")
        given = weights[key]
        if given.shape != tensor.shape:
            raise CheckpointError(
                f"{file}: {key} has shape {tuple(given.shape)}, expected {tuple(tensor.shape)}."
            )
        if given.is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(f"{file}: {key} has dtype {given.dtype}.")
    for key in weights:
        if key not in expected:
            raise CheckpointError(f"{file} holds an unknown tensor {key}.")
    network.load_state_dict(weights)
    return network.to(device, dtype).eval().requires_grad_(False)


def with_current_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any release under the names of today's modules."""
    current = {}
    for key, value in weights.items():
        for old, new in RENAMED.items():
            if key.startswith(old):
                key = new + key.removeprefix(old)
        current[key] = value
    return current


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error


def _write(file: Path, data: bytes) -> None:
    part = file.with_name(file.name + ".part")
    part.write_bytes(data)
    part.replace(file)
