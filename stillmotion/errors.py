"""What a call may raise, beside OSError for files."""

from dataclasses import dataclass


class StillmotionError(Exception):
    """Root. `code` is stable and machine-readable; the text is one sentence for people."""

    code = "internal_error"
    retryable = False

    def __init__(self, detail: str, *, code: str | None = None):
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


@dataclass(frozen=True)
class Fault:
    """One field that is wrong; `pointer` is a JSON pointer (RFC 6901) into the request."""

    pointer: str
    code: str
    detail: str


class Rejected(StillmotionError):
    """The server refuses the request, and says why (RFC 9457).

    `code` is stable and may be branched on, `detail` is one sentence. `faults`: every field that
    is wrong; `pointer`: the first one. `instance` names the request in the server's logs.
    `repeated`: an earlier try of the same call got no answer, and may be why this one is refused.
    """

    repeated = False

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        faults: tuple[Fault, ...] = (),
        instance: str | None = None,
        retryable: bool = False,
    ):
        super().__init__(detail, code=code)
        self.status = status
        self.faults = faults
        self.instance = instance
        self.retryable = retryable

    @property
    def pointer(self) -> str | None:
        return self.faults[0].pointer if self.faults else None


class Unreachable(StillmotionError):
    """The server cannot be reached, is overloaded, or has a fault of its own.

    `problem`: what it said last, if it said anything.
    """

    code = "unreachable"
    retryable = True

    def __init__(self, detail: str, problem: Rejected | None = None):
        super().__init__(detail)
        self.problem = problem


class UnexpectedAnswer(StillmotionError):
    """Whatever answers there is no such API."""

    code = "unexpected_answer"


class WaitTimeout(StillmotionError):
    """The job has not ended in the time that the caller gave it; it goes on."""

    code = "wait_timeout"
    retryable = True
