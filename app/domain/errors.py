"""One error tree. Each class answers: may this attempt, or this request, be tried again?"""

from stillmotion.errors import StillmotionError


class BadRequest(StillmotionError):
    """The caller's input is wrong; the same request can never succeed.

    `pointer` is a JSON pointer (RFC 6901) to the offending field. `retry_after_s`: the request is
    right, and only came too early.
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
    """Somebody else's fault, for now: the same work may succeed later or elsewhere."""

    code = "temporarily_unavailable"
    retryable = True


class Overloaded(Transient):
    """Refused at submit: better now than late. `retry_after_s`: when it may be worth another try.

    `status` 429: too many jobs wait; 503: nothing serves them at all.
    """

    def __init__(self, code: str, detail: str, *, status: int, retry_after_s: float):
        super().__init__(detail, code=code)
        self.status = status
        self.retry_after_s = retry_after_s


class DatabaseUnavailable(Transient):
    code = "database_unavailable"


class StorageUnavailable(Transient):
    code = "storage_unavailable"


class RenderFailed(Transient):
    """The pipeline broke in a way that another try may survive (device lost, out of memory)."""

    code = "render_failed"


class Permanent(StillmotionError):
    """No further attempt can help this job."""

    code = "render_impossible"


class ObjectMissing(Transient):
    """An input is written before its job is accepted, so a worker that cannot see it may be cut
    off from storage itself; another region is worth a try."""

    code = "object_missing"


class Superseded(StillmotionError):
    """The fence moved on: this attempt no longer owns its job and must change nothing."""

    code = "superseded"


class Canceled(StillmotionError):
    """The client asked to stop, or the deadline passed, while this attempt was rendering."""

    code = "canceled"


def classify(error: BaseException) -> StillmotionError:
    """Map anything an attempt may raise into the tree; unknown errors are worth another try.

    A bug shows up as `internal_error` after MAX_BEGUN attempts rather than as a lost job.
    """
    if isinstance(error, StillmotionError):
        return error
    if isinstance(error, MemoryError):
        return RenderFailed("The worker ran out of memory.", code="out_of_memory")
    return Transient(f"Unexpected {type(error).__name__} while rendering.", code="internal_error")
