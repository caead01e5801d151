"""Keeps one attempt's lease while work advances, and tells the work when to stop."""

from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Thread
from time import monotonic

import structlog

from app.domain.errors import Canceled, DatabaseUnavailable, Superseded
from app.domain.job.lease import RENEW_S

log = structlog.get_logger(__name__)


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
        # Its log lines are about the attempt that makes it.
        self._thread = Thread(
            target=copy_context().run, args=(self._run,), name="lease-keeper", daemon=True
        )

    def __enter__(self) -> "LeaseKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=1.0)

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
        renewed = monotonic()
        # Checks more often than it renews, so that a stall is noticed close to its limit. A renewal
        # is never late: a worker that renews late is half-way to being taken for dead.
        while not self._ended.wait(
            max(0.0, min(1.0, self._stall_limit_s / 4, renewed + RENEW_S - monotonic()))
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
