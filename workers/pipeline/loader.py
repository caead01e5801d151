"""Model directories: config.json and model.safetensors, checked before they are used."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from workers.pipeline.denoiser import DenoiserConfig, MotionDenoiser
from workers.pipeline.errors import CheckpointError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a model but its weights."""

    name: str
    version: str
    network: DenoiserConfig
    vocabulary: list[str]
    motion_scale: float  # what a displacement of 1 in the network's units is, in half sides
    steps: int
    picture_scale: float
    text_scale: float
    bands: int  # how many frequencies a sampled motion may have along x, y and time
    default_prompt: str  # stands in for a prompt without a known word


def save_model(directory: Path, config: ModelConfig, weights: dict[str, Tensor]) -> None:
    """Write a model directory in bf16, each file atomically."""
    directory.mkdir(parents=True, exist_ok=True)
    half = {key: value.to(torch.bfloat16).contiguous() for key, value in weights.items()}
    _write(directory / WEIGHTS_FILE, safetensors.torch.save(half))
    _write(directory / CONFIG_FILE, (json.dumps(asdict(config), indent=1) + "\n").encode())


def load_model(
    directory: Path, dtype: torch.dtype, device: str
) -> tuple[MotionDenoiser, ModelConfig]:
    """Read a model directory. Raises CheckpointError: one sentence with the file and the key."""
    config = _read_config(directory / CONFIG_FILE)
    file = directory / WEIGHTS_FILE
    try:
        network = MotionDenoiser(config.network)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{directory / CONFIG_FILE} describes no network: {error}."
        ) from error
    expected = {key: value.shape for key, value in network.state_dict().items()}
    weights = _read_weights(file)
    for key, shape in expected.items():
        if key not in weights:
            raise CheckpointError(f"{file} lacks the tensor {key}.")
        if weights[key].shape != shape:
            found = tuple(weights[key].shape)
            raise CheckpointError(f"{file}: {key} has shape {found}, expected {tuple(shape)}.")
    for key in weights:
        if key not in expected:
            raise CheckpointError(f"{file} holds an unknown tensor {key}.")
    network.load_state_dict(weights)
    return network.to(device, dtype).eval().requires_grad_(False), config


def _read_config(file: Path) -> ModelConfig:
    try:
        fields = json.loads(file.read_text())
        network = DenoiserConfig(**fields.pop("network"))
        network = DenoiserConfig(**{**asdict(network), "channels": tuple(network.channels)})
        return ModelConfig(network=network, **fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error


def _write(file: Path, data: bytes) -> None:
    part = file.with_name(file.name + ".part")
    part.write_bytes(data)
    part.replace(file)
