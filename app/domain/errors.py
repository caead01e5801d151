"""One error tree. Each class answers: may this attempt, or this request, be tried again?"""

from stillmotion.errors import StillmotionError


class BadRequest(StillmotionError):
    """The caller's input is wrong; the same request can never succeed.

    `pointer` is a JSON pointer (RFC 6901) to the offending field. With `retry_after_s` the request
    itself is right but came too early.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int = 400,
        pointer: str | None = None,
        retry_after_s: float | None = None,
    ):
        super().__init__(detail, code=code)
        self.status = status
        self.pointer = pointer
        self.retry_after_s = retry_after_s
        self.retryable = retry_after_s is not None


class Transient(StillmotionError):
    """A temporary fault elsewhere: the same work may succeed later or in another region."""

    code = "temporarily_unavailable"
    retryable = True


class Overloaded(Transient):
    """Refused at submit, rather than accepted and late. `retry_after_s`: when to try again.

    `status` 429: too many jobs wait. 503: no worker serves them at all.
    """

    def __init__(self, code: str, detail: str, *, status: int, retry_after_s: float):
        super().__init__(detail, code=code)
        self.status = status
        self.retry_after_s = retry_after_s


class DatabaseUnavailable(Transient):
    code = "database_unavailable"


class StorageUnavailable(Transient):
    code = "storage_unavailable"


class HandedBack(Transient):
    """A worker had begun the job and could not go on; neither is at fault."""

    code = "handed_back"


class RenderFailed(Transient):
    """The pipeline broke, but another attempt may succeed (device lost, out of memory)."""

    code = "render_failed"


class Permanent(StillmotionError):
    """No further attempt can help this job."""

    code = "render_impossible"


class ObjectMissing(Transient):
    """An input is not in storage.

    It was stored before its job was accepted, so the worker's path to storage may be broken.
    Another region is worth a try.
    """

    code = "object_missing"


class Superseded(StillmotionError):
    """This attempt no longer owns its job, and must not change anything."""

    code = "superseded"


class Canceled(StillmotionError):
    """The client asked to stop, or the deadline passed, while this attempt was rendering."""

    code = "canceled"


def classify(error: BaseException) -> StillmotionError:
    """Map any exception of an attempt into the tree. Unknown errors are worth another attempt.

    A bug then ends as `internal_error` after MAX_BEGUN attempts, and not as a lost job.
    """
    if isinstance(error, StillmotionError):
        return error
    if isinstance(error, MemoryError):
        return RenderFailed("The worker ran out of memory.", code="out_of_memory")
    return Transient(f"Unexpected {type(error).__name__} while rendering.", code="internal_error")
