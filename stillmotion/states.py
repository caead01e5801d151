"""The states of a job and how far it may travel, shared by clients and the service."""

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"  # placed in a pool, not yet started
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"  # a deadline passed while the job was not processing

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


class Policy(StrEnum):
    """How far from its home region a job may run."""

    STRICT = "strict"
    RING = "ring"
    ANY = "any"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED})
