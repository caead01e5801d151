"""What one dispatcher remembers between passes: regions that refuse, jobs that were refused."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from app.config.settings import Settings
from app.domain.routing.candidates import RoutingRequest
from app.domain.routing.pacing import OverflowThrottle, probe_delay
from app.domain.routing.topology import Ring
from app.traffic import Snapshot
from stillmotion.states import Policy

OVERFLOW_LONGEST_S = 600.0
ESCALATIONS_KEPT, ESCALATION_KEPT_S = 10_000, 30.0
ROUNDS = Ring.ANY - Ring.NEAR  # after this many, every ring is open


@dataclass
class RingEscalation:
    """How often everything has refused a job: each round opens one more ring."""

    rounds: int = 0
    next_at: float = 0.0


class Memory:
    """`worker_idle` may be called from another thread; the rest belongs to the placing loop."""

    def __init__(
        self,
        config: Settings,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        draw: Callable[[], float],
    ):
        self._config = config
        self._clock, self._wall, self._draw = clock, wall, draw
        # Placements of overflow: when (Unix time), home, region.
        self._overflow: deque[tuple[float, str, str]] = deque()
        self._escalations: dict[UUID, RingEscalation] = {}
        self._throttles: dict[str, OverflowThrottle] = {}
        self._alive: dict[str, float] = {}  # regions whose workers were heard, Unix time

    def now(self) -> float:
        """Unix time."""
        return self._wall()

    # --- regions ----------------------------------------------------------------------------------

    def worker_idle(self, region: str) -> None:
        """A worker of the region became idle: any report of no workers is out of date."""
        self._alive[region] = self._wall()
        self._throttles.pop(region, None)

    def ready(self, snapshot: Snapshot) -> dict[str, int]:
        """Workers per region. A worker heard since outweighs a report that there are none."""
        found = snapshot.ready(self._wall())
        for name, at in self._alive.items():
            report = snapshot.reports.get(name)
            newer = report is None or at > report.report.sent_at
            if newer and found.get(name) == 0 and name not in snapshot.controls.drained:
                del found[name]
        return found

    def throttled(self, region: str) -> bool:
        """Whether to spare a region that mostly refuses overflow."""
        throttle = self._throttles.get(region)
        if throttle is None or self._draw() >= throttle.refusal(self._clock()):
            return False
        throttle.asked(self._clock(), accepted=False)
        return True

    def asked_for_overflow(self, region: str, *, accepted: bool) -> None:
        """A region was asked for workers for jobs of other homes."""
        if region not in self._throttles:
            self._throttles[region] = OverflowThrottle(
                self._config.throttle_k, self._config.throttle_window_s
            )
        self._throttles[region].asked(self._clock(), accepted=accepted)

    def overflowed(self, home: str, region: str) -> None:
        """A job of `home` was placed on a spare worker of `region`."""
        self._overflow.append((self._wall(), home, region))

    def in_flight(
        self, since: Mapping[str, float], service_s: Mapping[str, float]
    ) -> dict[str, dict[str, int]]:
        """By home and region, the overflow that spare workers counted at `since` do not include.

        Overflow older than its region's service time is assumed to have ended.
        """
        wall = self._wall()
        while self._overflow and wall - self._overflow[0][0] > OVERFLOW_LONGEST_S:
            self._overflow.popleft()
        held: dict[str, dict[str, int]] = {}
        for at, home, region in self._overflow:
            lasts_s = service_s.get(region, self._config.assumed_service_s)
            if at > since.get(region, 0.0) and wall - at <= lasts_s:
                row = held.setdefault(home, {})
                row[region] = row.get(region, 0) + 1
        return held

    # --- jobs -------------------------------------------------------------------------------------

    def rounds(self, job_id: UUID) -> int:
        """How many more rings refusals have opened for a job."""
        escalation = self._escalations.get(job_id)
        return 0 if escalation is None else min(ROUNDS, escalation.rounds)

    def record_refused_round(self, request: RoutingRequest) -> float | None:
        """Everything refused the job. Returns when its next ring opens; None if none will."""
        if request.policy is not Policy.RING:
            return None
        now = self._clock()
        escalation = self._escalations.setdefault(request.job_id, RingEscalation())
        if now >= escalation.next_at:
            escalation.rounds += 1
            escalation.next_at = now + probe_delay(escalation.rounds, self._draw())
        return escalation.next_at if escalation.rounds <= ROUNDS else None

    def prune(self) -> None:
        """Forget jobs that are gone: one that still waits was refused within ESCALATION_KEPT_S."""
        if len(self._escalations) > ESCALATIONS_KEPT:
            old = self._clock() - ESCALATION_KEPT_S
            self._escalations = {
                job_id: kept for job_id, kept in self._escalations.items() if kept.next_at > old
            }
