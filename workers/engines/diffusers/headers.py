"""Headers of safetensors files: which tensors a file holds, read without reading them.

Format: https://huggingface.co/docs/safetensors: eight bytes, little-endian, of the length of a JSON
object, that object, the data.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from workers.engines.diffusers.unusable import Unusable

MAX_HEADER = 100_000_000  # bytes; the format's own limit

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
BYTES |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
PLAIN_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True)
class Tensor:
    dtype: str  # as the format spells it: BF16
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return prod(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith(("F", "BF"))


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises Unusable for a file that is not whole, OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise Unusable(f"{path} is not a safetensors file.")
        text = file.read(length)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        tensors = {
            name: Tensor(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise Unusable(f"{path} is not a safetensors file.") from None
    if size != 8 + length + end:
        raise Unusable(f"{path} is cut short: {size} bytes instead of {8 + length + end}.")
    return tensors
