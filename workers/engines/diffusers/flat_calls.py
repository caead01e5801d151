"""A call of a block as a list of tensors, which is all that graphs take.

What is no tensor becomes part of the call's key, with shapes and types: a graph is right for calls
of one key, and for no other.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch

Key = tuple[Hashable, ...]

TENSOR, VALUE = "tensor", "value"
SEQUENCES: dict[str, type[Any]] = {"tuple": tuple, "list": list}


class NotFlat(Exception):
    """An argument or a result that is neither a tensor nor a plain value."""


class Mismatch(Exception):
    """There is no graph for a call, or it does not compute what the block does."""


def flatten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[torch.Tensor], Key]:
    """The tensors of a call, in order, and its key. Raises NotFlat."""
    tensors: list[torch.Tensor] = []
    return tensors, _key((args, kwargs), tensors)


def _key(value: Any, tensors: list[torch.Tensor]) -> Key:
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return (TENSOR, str(value.dtype), value.device.type, *value.shape)
    kind = type(value).__name__
    if kind in SEQUENCES:
        return (kind, *(_key(each, tensors) for each in value))
    if isinstance(value, dict):
        return ("dict", *((name, _key(each, tensors)) for name, each in value.items()))
    if value is None or isinstance(value, bool | int | float | str):
        return (VALUE, kind, value)
    raise NotFlat(kind)


def _rebuilt(key: Any, tensors: Iterator[torch.Tensor]) -> Any:
    kind = key[0]
    if kind == TENSOR:
        return next(tensors)
    if kind == VALUE:
        return key[2]
    if kind == "dict":
        return {name: _rebuilt(each, tensors) for name, each in key[1:]}
    return SEQUENCES[kind](_rebuilt(each, tensors) for each in key[1:])


class FlatCall(torch.nn.Module):
    """A block that takes the tensors of calls of one key, and returns a tuple of tensors.

    Its parameters are named as the block's, after `block.`.
    """

    def __init__(self, block: torch.nn.Module, forward: Callable[..., Any], key: Key):
        super().__init__()
        self.block = block
        self._forward, self._key = forward, key
        self.eval()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        args, kwargs = _rebuilt(self._key, iter(tensors))
        return as_tuple(self._forward(*args, **kwargs))


def as_tuple(result: Any) -> tuple[torch.Tensor, ...]:
    """A result's tensors. Raises NotFlat for one that is no tensor or tuple of tensors."""
    found = result if isinstance(result, tuple) else (result,)
    if type(found) is not tuple or not all(isinstance(each, torch.Tensor) for each in found):
        raise NotFlat(f"a result of type {type(result).__name__}")
    return found


def shapes_of(tensors: list[torch.Tensor]) -> str:
    """For a reader of the log: 1x48x48 1x16x48."""
    return " ".join("x".join(map(str, each.shape)) for each in tensors)
