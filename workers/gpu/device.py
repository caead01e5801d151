"""Memory and utilisation of this worker's GPU, as NVIDIA's driver says when a scrape asks."""

import sys
from collections.abc import Callable
from math import nan
from types import ModuleType
from typing import Any

import structlog

from app import metrics

log = structlog.get_logger(__name__)


def show() -> None:
    """Show the GPU that torch uses, if it uses one."""
    torch = sys.modules.get("torch")  # an engine without it has no GPU
    if torch is None or not torch.cuda.is_available():
        return
    try:
        import pynvml

        show_device(pynvml, str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
    except Exception as error:  # the clips do not need it
        log.warning("gpu_not_observed", error=str(error))


def show_device(nvml: ModuleType | Any, uuid: str) -> None:
    """Show one device. `nvml`: NVIDIA's bindings, which raise NVMLError for an unknown one."""
    nvml.nvmlInit()
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    handle = nvml.nvmlDeviceGetHandleByUUID(name)
    nvml.nvmlDeviceGetMemoryInfo(handle)  # fails here rather than at every scrape
    memory = metrics.gpu_memory_bytes
    memory.labels("used").set_function(_or_nan(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used))
    memory.labels("total").set_function(_or_nan(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total))
    # A part of a GPU (MIG) has no utilisation of its own.
    metrics.gpu_utilisation_ratio.labels(name).set_function(
        _or_nan(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
    )


def _or_nan(read: Callable[[], float]) -> Callable[[], float]:
    """A scrape shows the other metrics even if the driver stops answering."""

    def safe() -> float:
        try:
            return float(read())
        except Exception:
            return nan

    return safe
