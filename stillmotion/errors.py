"""The errors that the client raises, besides OSError for files."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillmotion.models import Job


class StillmotionError(Exception):
    """Root of all errors. `code` is stable and machine-readable; `detail` is one sentence."""

    code = "internal_error"
    retryable = False

    def __init__(self, detail: str, *, code: str | None = None):
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class ConfigurationError(StillmotionError):
    """The server's URL or the API key is missing or malformed."""

    code = "invalid_configuration"


@dataclass(frozen=True)
class FieldError:
    """An invalid field; `pointer` is a JSON pointer (RFC 6901) into the request."""

    pointer: str
    code: str
    detail: str


class Rejected(StillmotionError):
    """The server refused the request and said why (RFC 9457).

    `code` is stable, so a program may branch on it; `detail` is one sentence. `errors` lists every
    invalid field and `pointer` names the first. `instance` identifies the request in the server's
    logs. `repeated` means that an earlier try of the same call got no response; that try may be
    the reason for this refusal.
    """

    repeated = False

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        instance: str | None = None,
        retryable: bool = False,
    ):
        super().__init__(detail, code=code)
        self.status = status
        self.errors = errors
        self.instance = instance
        self.retryable = retryable

    @property
    def pointer(self) -> str | None:
        return self.errors[0].pointer if self.errors else None


class Unreachable(StillmotionError):
    """The server cannot be reached, is overloaded, or failed internally.

    `problem` is its last response, if there was one.
    """

    code = "unreachable"
    retryable = True

    def __init__(self, detail: str, problem: Rejected | None = None):
        super().__init__(detail)
        self.problem = problem


class UnexpectedResponse(StillmotionError):
    """Something responded, but not as the Stillmotion API does."""

    code = "unexpected_response"

    def __init__(self, source: str, problem: str):
        super().__init__(
            f"Unexpected response from {source}; is this a Stillmotion server? ({problem})"
        )


class JobFailed(StillmotionError):
    """The job ended without a clip: it failed, was canceled, or expired.

    `job` is the job as it ended; `code` and `detail` are those of its error.
    """

    def __init__(self, job: "Job"):
        error = job.error
        code = f"job_{job.state}" if error is None else error.code
        ended = f"Job {job.id} ended as {job.state}"
        super().__init__(f"{ended}." if error is None else f"{ended}: {error.message}", code=code)
        if error is not None:
            self.detail = error.message
        self.job = job


class WaitTimeout(StillmotionError):
    """The job did not end within the caller's timeout. It continues on the server."""

    code = "wait_timeout"
    retryable = True
