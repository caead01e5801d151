"""Remembers what prompts were encoded to, where the encoder is not kept on the device."""

from collections import OrderedDict
from typing import Any

import torch

KEPT = 16  # prompts; a few MB each
PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)


def remember_prompts(pipe: Any) -> None:
    """Encode a prompt once: the same words always give the same numbers."""
    encode = getattr(pipe, "encode_prompt", None)
    if encode is None:
        return
    known: OrderedDict[Any, Any] = OrderedDict()

    def encode_once(*args: Any, **kwargs: Any) -> Any:
        if not all(isinstance(value, PLAIN) for value in (*args, *kwargs.values())):
            return encode(*args, **kwargs)
        key = (args, tuple(sorted(kwargs.items())))
        if key not in known:
            known[key] = encode(*args, **kwargs)
            if len(known) > KEPT:
                known.popitem(last=False)
        known.move_to_end(key)
        return known[key]

    pipe.encode_prompt = encode_once
