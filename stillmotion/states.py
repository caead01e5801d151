"""The states of a job and how far it may travel, shared by clients and the service."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is between submit and its end.

    `app/domain/job/state.py` has every move, and a trigger in the database enforces the same. The
    last four are terminal: a job that is in one of them never changes its state again, and its
    webhooks were written in the statement that ended it.
    """

    QUEUED = "queued"
    """Accepted and stored, waiting for a worker.

    Submit puts a job here. An attempt puts it back after a transient failure, and the reaper after
    a lost lease or a placement that no worker began. It may also be held back for a moment (after
    a failure, or because its key is at its concurrency limit). Next: `starting`, when a dispatcher
    places it; `canceled`, at the client's request; `expired`, when a deadline passes.
    """

    STARTING = "starting"
    """Placed: a dispatcher has claimed a worker for it and sent the message. Lasts milliseconds.

    A new fence marks the placement. Next: `processing`, when the worker begins; `queued`, when
    none does within 2 s, which counts against nothing; `canceled`; `expired`.
    """

    PROCESSING = "processing"
    """A worker holds its lease and renders it.

    The worker renews the lease every 5 s while its work advances. A cancel is only a request here,
    which the worker sees with its next step. Next: `succeeded` or `failed`, by the worker;
    `queued`, after a transient failure or a lost lease, if fewer than three attempts have begun,
    else `failed`; `canceled`, when the worker has stopped or is gone.
    """

    SUCCEEDED = "succeeded"
    """The clip is stored and the job names it, until its retention is over."""

    FAILED = "failed"
    """No attempt will follow: the failure is permanent, or the third attempt that began is lost.

    `error.code` says which.
    """

    CANCELED = "canceled"
    """The client asked for it, or the job's deadline passed while it was processing.

    Waiting jobs are canceled at once, by the API; others by their worker, or by the reaper if the
    worker is gone or the deadline passed.
    """

    EXPIRED = "expired"
    """Its deadline, or the longest time it was to wait, passed before a worker began it.

    The reaper moves it here, from `queued` or `starting`.
    """

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


class Policy(StrEnum):
    """How far from its home region a job may go. `allowed_regions` narrows it further."""

    STRICT = "strict"  # not at all
    RING = "ring"  # as far as the rings that its home's overload opens
    ANY = "any"  # anywhere


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED})
