"""Keeps one attempt's lease while work advances, and tells the work when to stop."""

from collections.abc import Callable
from contextvars import copy_context
from threading import Condition, Event, Thread
from time import monotonic

import structlog

from app.domain.errors import Canceled, DatabaseUnavailable, Superseded
from app.domain.job.lease import RENEW_S

log = structlog.get_logger(__name__)

CHECK_S = 1.0  # at most; it checks more often if the limit for stalls is short


class _Starter:
    """Starts the threads of keepers once they have something to do.

    Most short attempts have ended before their first check, and starting a thread for each costs as
    much as a statement.
    """

    def __init__(self) -> None:
        self._change = Condition()
        self._waiting: dict[LeaseKeeper, float] = {}  # when each must start
        self._thread: Thread | None = None

    def add(self, keeper: "LeaseKeeper", due: float) -> None:
        with self._change:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="lease-keepers", daemon=True)
                self._thread.start()
            # While others wait, the thread wakes by itself, before this one is due or soon after.
            if not self._waiting or due < min(self._waiting.values()):
                self._change.notify()
            self._waiting[keeper] = due

    def remove(self, keeper: "LeaseKeeper") -> None:
        """The attempt has ended. Its thread, if it is not running yet, is not started any more."""
        with self._change:
            self._waiting.pop(keeper, None)

    def _run(self) -> None:
        while True:
            for keeper in self._due():
                keeper.start_thread()

    def _due(self) -> "list[LeaseKeeper]":
        """Wait until a keeper is due, or another has come; take those that are due."""
        with self._change:
            soonest = min(self._waiting.values(), default=None)
            self._change.wait(None if soonest is None else max(0.0, soonest - monotonic()))
            now = monotonic()
            due = [keeper for keeper, at in self._waiting.items() if at <= now]
            for keeper in due:
                del self._waiting[keeper]
            return due


_starter = _Starter()


class LeaseKeeper:
    """Renews every RENEW_S in its own thread, as long as `advance` keeps being called.

    `renew(step)` returns what `store.attempts.renew` does: True to go on, False if the client asked
    to stop, None if superseded. An unavailable database changes nothing: rendering goes on, and the
    fence decides at Finish. `on_stall` is called once, if nothing advances for `stall_limit_s` or
    the attempt has run for `attempt_limit_s`; it is expected to end the process. `deadline_s`: the
    work is told to stop then, too, whether or not anybody else notices.
    """

    def __init__(
        self,
        renew: Callable[[int], bool | None],
        *,
        stall_limit_s: float,
        attempt_limit_s: float,
        on_stall: Callable[[str], None],
        deadline_s: float | None = None,
    ):
        self._renew = renew
        self._stall_limit_s = stall_limit_s
        self._attempt_limit_s = attempt_limit_s
        self._on_stall = on_stall
        self._step = 0
        self._begun = self._advanced = monotonic()
        self._deadline = None if deadline_s is None else self._begun + deadline_s
        self._stop: type[Canceled] | type[Superseded] | None = None
        self._ended = Event()
        self._context = copy_context()  # its log lines are about the attempt that makes it
        self._thread: Thread | None = None

    def __enter__(self) -> "LeaseKeeper":
        _starter.add(self, self._begun + min(CHECK_S, self._stall_limit_s / 4))
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        _starter.remove(self)
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def start_thread(self) -> None:
        """Begin to check and to renew."""
        thread = Thread(
            target=self._context.run, args=(self._run,), name="lease-keeper", daemon=True
        )
        try:
            thread.start()
            self._thread = thread
        except RuntimeError as error:  # no memory for a thread
            self._on_stall(str(error))

    def advance(self, step: int | None = None) -> None:
        """Record that work advanced. Raises Canceled or Superseded if it must stop."""
        self._advanced = monotonic()
        if step is not None:
            self._step = step
        if self._deadline is not None and self._advanced >= self._deadline:
            self.cancel()
        if self._stop is not None:
            raise self._stop("The attempt was told to stop.")

    def waiting(self) -> None:
        """Record that the attempt waits for the database to accept its end: not a stall."""
        self._advanced = monotonic()

    def cancel(self) -> None:
        """Make the next `advance` raise Canceled."""
        self._stop = self._stop or Canceled

    @property
    def remaining_s(self) -> float:
        """Seconds until the attempt's limit."""
        return self._begun + self._attempt_limit_s - monotonic()

    def _run(self) -> None:
        renewed = self._begun
        # Checks more often than it renews, so that a stall is noticed close to its limit. A renewal
        # is never late: a worker that renews late is half-way to being taken for dead.
        while not self._ended.wait(
            max(0.0, min(CHECK_S, self._stall_limit_s / 4, renewed + RENEW_S - monotonic()))
        ):
            now = monotonic()
            if now - self._advanced > self._stall_limit_s:
                self._on_stall(f"no progress for {self._stall_limit_s:.0f} s")
                return
            if self.remaining_s < 0:
                self._on_stall(f"the attempt ran for {self._attempt_limit_s:.0f} s")
                return
            if now - renewed >= RENEW_S:
                renewed = now
                self._renew_once()

    def _renew_once(self) -> None:
        try:
            held = self._renew(self._step)
        except DatabaseUnavailable as error:
            log.warning("lease_not_renewed", error=str(error))
            return
        if held is None:
            self._stop = Superseded
        elif held is False:
            self.cancel()
