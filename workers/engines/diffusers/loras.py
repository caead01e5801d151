"""LoRAs: loaded into the network that the profile names, and found there afterwards.

The library accepts a LoRA whose names match nothing. It fuses only the first of two networks unless
told otherwise, and the second then loses its LoRA. Both make a clip, but not the promised one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workers.engines.diffusers.table import DiffusersTable, Lora
from workers.engines.diffusers.unusable import Unusable, shorten

WEIGHTS = ("lora_A.weight", "lora_B.weight")
FUSING_TOLERANCE = 0.1  # of the change


def apply_loras(pipe: Any, table: DiffusersTable, home: Path) -> None:
    """Load the profile's LoRAs; their paths are relative to `home`. Raises Unusable."""
    named = [(lora, f"lora{number}") for number, lora in enumerate(table.lora)]
    fused = [(lora, name) for lora, name in named if lora.fuse]
    beside = [(lora, name) for lora, name in named if not lora.fuse]
    for lora, name in fused:
        load_lora(pipe, lora, home / lora.file, name)
    if fused:
        fuse(pipe, fused)  # this unloads every adapter, so the others come later
    for lora, name in beside:
        load_lora(pipe, lora, home / lora.file, name)
    _weigh(pipe, beside)


def check_loras(pipe: Any, table: DiffusersTable, home: Path) -> None:
    """What is known of the profile's LoRAs before one is loaded. Raises Unusable."""
    for lora in table.lora:
        _network_for(pipe, lora, home / lora.file)


def _network_for(pipe: Any, lora: Lora, path: Path) -> torch.nn.Module:
    network = getattr(pipe, lora.component, None)
    if not isinstance(network, torch.nn.Module):
        raise Unusable(f"lora: the checkpoint has no {lora.component!r}.")
    if not hasattr(pipe, "load_lora_weights"):
        raise Unusable(f"lora: {type(pipe).__name__} takes none.")
    if not path.is_file():
        raise Unusable(f"lora: there is no file {path}.")
    return network


def load_lora(pipe: Any, lora: Lora, path: Path, name: str) -> None:
    """Load one LoRA as the adapter `name`, and check that all of it arrived. Raises Unusable."""
    network = _network_for(pipe, lora, path)
    second = {"load_into_transformer_2": True} if lora.component == "transformer_2" else {}
    where = {"weight_name": path.name, "use_safetensors": True}
    try:
        converted = pipe.lora_state_dict(str(path.parent), **where)
        pipe.load_lora_weights(str(path.parent), adapter_name=name, **where, **second)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
        raise Unusable(f"lora: {path} cannot be loaded: {error}") from error
    weights = converted[0] if isinstance(converted, tuple) else converted
    check_matched(path, weights, network, name)


def check_matched(
    path: Path, weights: dict[str, torch.Tensor], network: torch.nn.Module, name: str
) -> None:
    """Every pair of the file is an adapter of the network. Raises Unusable."""
    given = {key.split(".", 1)[1] for key in weights if key.endswith(WEIGHTS)}
    arrived = {
        key.replace(f".{name}.", ".") for key, _ in network.named_parameters() if f".{name}." in key
    }
    if not arrived:
        raise Unusable(f"lora: nothing in {path.name} fits {type(network).__name__}.")
    if lost := sorted(given - arrived):
        raise Unusable(f"lora: {type(network).__name__} has no place for {shorten(lost)}.")


@dataclass(frozen=True)
class _Change:
    """What fusing must do to one layer."""

    path: str
    before: torch.Tensor
    delta: torch.Tensor


def fuse(pipe: Any, loras: list[tuple[Lora, str]]) -> None:
    """Add the LoRAs to the weights, in every network that has one. Raises Unusable."""
    components = dict.fromkeys(lora.component for lora, _ in loras)
    changes = {name: _expected_change(getattr(pipe, name), name, loras) for name in components}
    for lora, name in loras:
        pipe.fuse_lora(components=[lora.component], lora_scale=lora.strength, adapter_names=[name])
    pipe.unload_lora_weights()
    for name, change in changes.items():
        check_fused(getattr(pipe, name), name, change)


def _expected_change(
    network: torch.nn.Module, component: str, loras: list[tuple[Lora, str]]
) -> _Change:
    ours = [(lora, name) for lora, name in loras if lora.component == component]
    for path, layer in network.named_modules():
        module: Any = layer
        deltas = [
            lora.strength * module.get_delta_weight(name).detach().float()
            for lora, name in ours
            if name in getattr(layer, "lora_A", {})
        ]
        delta = sum(deltas[1:], deltas[0]) if deltas else None
        if delta is not None and bool(delta.any()):
            return _Change(path, module.base_layer.weight.detach().float().clone(), delta)
    raise Unusable(f"lora: {component} has none that changes anything.")


def check_fused(network: torch.nn.Module, component: str, change: _Change) -> None:
    """The layer kept what was fused into it. Raises Unusable."""
    layer: Any = network.get_submodule(change.path)
    made = layer.weight.detach().float() - change.before
    # Rounding of 16-bit weights is no part of the change's direction, so it drops out.
    share = float((made * change.delta).sum() / (change.delta * change.delta).sum())
    if abs(share - 1.0) > FUSING_TOLERANCE:
        raise Unusable(f"lora: {component} lost its LoRA while it was fused.")


def _weigh(pipe: Any, loras: list[tuple[Lora, str]]) -> None:
    """Set the strengths of the LoRAs that stay beside the weights."""
    for component in dict.fromkeys(lora.component for lora, _ in loras):
        ours = {name: lora.strength for lora, name in loras if lora.component == component}
        getattr(pipe, component).set_adapters(list(ours), list(ours.values()))
