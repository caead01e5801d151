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

from workers.pipeline.denoiser import DenoiserConfig
from workers.pipeline.errors import CheckpointError
from workers.pipeline.layered_denoiser import LayeredDenoiser

CONFIG_FILE = "config.json"
TEACHER, STUDENT = "teacher", "student"
LAYERS = 4  # that a state has, two channels each


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
    # Half sides per unit of the network: camera, body, what is soft in background and subject.
    layer_scales: tuple[float, ...]
    sampling: dict[str, Sampling] = field(default_factory=dict)  # by network


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
        scales = tuple(float(scale) for scale in fields.pop("layer_scales"))
        if len(scales) != LAYERS:
            raise ValueError(f"layer_scales must be {LAYERS} numbers")
        return ModelConfig(network=network, sampling=sampling, layer_scales=scales, **fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error


def load_network(
    directory: Path, name: str, config: ModelConfig, dtype: torch.dtype, device: str
) -> LayeredDenoiser:
    """Read <name>.safetensors. Raises CheckpointError, which names the file and the key."""
    file = directory / f"{name}.safetensors"
    try:
        network = LayeredDenoiser(config.network)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{directory / CONFIG_FILE} does not describe a network: {error}."
        ) from error
    expected = network.state_dict()
    weights = _read_weights(file)
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


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error


def _write(file: Path, data: bytes) -> None:
    part = file.with_name(file.name + ".part")
    part.write_bytes(data)
    part.replace(file)
