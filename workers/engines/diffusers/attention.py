"""The attention back end of the denoising networks."""

from typing import Any

from workers.engines.diffusers.loading import denoisers
from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable

# They refuse masks, and fail at the first job. The varlen ones take them.
WITHOUT_MASKS = ("flash", "_flash", "_native_flash", "sage", "_sage", "aiter")
# Pipelines that mask the padding of their prompts.
MASKING = ("LTX", "HunyuanVideo", "Mochi", "SanaVideo")


def set_attention(pipe: Any, table: DiffusersTable) -> None:
    """Use the profile's back end. Raises Unusable if it is not here, or refuses this pipeline."""
    backend = table.attention
    if backend is None:
        return
    name = type(pipe).__name__
    maskless = backend.startswith(WITHOUT_MASKS) and "varlen" not in backend
    if maskless and name.startswith(MASKING):
        raise Unusable(
            f"attention: {backend!r} takes no masks, and {name} always passes one; use 'native'."
        )
    if backend.endswith("_hub"):
        raise Unusable(
            f"attention: {backend!r} is downloaded when it is used; install its package."
        )
    for network in denoisers(pipe):
        setter: Any = network
        try:
            setter.set_attention_backend(backend)
        except (ValueError, RuntimeError, ImportError) as error:
            raise Unusable(f"attention: {backend!r} cannot be used: {error}") from error
