"""What a GPU worker does before it can take jobs."""

from enum import StrEnum


class WorkerPhase(StrEnum):
    """In this order; an engine without compiled parts skips `compiling`."""

    LOADING = "loading"
    COMPILING = "compiling"
    WARMING = "warming"
    READY = "ready"
    FAILED = "failed"  # the process has ended; its last log line says why
