"""The waiting jobs that come first, by profile, as one dispatcher last saw them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from uuid import UUID

from app.store.job import placing
from app.store.job.placing import Waiting
from app.store.session import Store

POLL_S = 1.0  # wake-ups may be lost


@dataclass
class Head:
    """The first waiting jobs of a profile, read at a monotonic time."""

    jobs: list[Waiting]
    full: frozenset[object]  # queues that had more jobs than the batch holds
    seen_at: float
    news: int


class Backlog:
    """Reads the head of the queues once a second, on news of new jobs, and when it runs low.

    Reading it for every worker that becomes idle would be half of placement's work.
    """

    def __init__(
        self,
        store: Store,
        regions: Sequence[str],
        profiles: Sequence[str],
        *,
        batch: int,
        clock: Callable[[], float],
    ):
        self._store = store
        self._regions = regions
        self._batch = batch
        self._clock = clock
        self._heads: dict[str, Head] = {}
        # The last news about waiting jobs of each profile, by number.
        self._news = dict.fromkeys(profiles, 0)
        self._numbers = count(1)

    def news(self, profile: str | None = None) -> None:
        """New jobs may wait, of this profile if one is given. May be called from any thread."""
        for each in self._news if profile is None else (profile,):
            self._news[each] = next(self._numbers)

    def worker_idle(self, profile: str, region: str) -> None:
        """A worker became idle. May be called from any thread.

        The head is kept if it holds jobs for that very pool; news of any others may have gone to
        another dispatcher.
        """
        head = self._heads.get(profile)
        if head is None or not any(job.next_region == region for job in head.jobs):
            self.news(profile)

    def read(self, profile: str, open_regions: Sequence[str]) -> list[Waiting]:
        """The jobs that come first. `open_regions`: those that may have a worker."""
        head, now = self._heads.get(profile), self._clock()
        # Read before the query: news that arrives during it must not be overlooked.
        news = self._news[profile]
        if head is not None and head.news == news and now < head.seen_at + POLL_S:
            return head.jobs
        with self._store.autocommit() as conn:
            jobs = placing.peek(
                conn, profile, self._regions, open_regions=open_regions, limit=self._batch
            )
        counts = Counter(key for job in jobs for key in _queues(job))
        full = frozenset(key for key, count in counts.items() if count >= self._batch)
        self._heads[profile] = Head(jobs, full, now, news)
        return jobs

    def remove(self, profile: str, placed: Collection[UUID]) -> list[Waiting]:
        """Take placed jobs out of the head. Returns those that are left."""
        head = self._heads[profile]
        if placed:
            head.jobs = [job for job in head.jobs if job.job_id not in placed]
        return head.jobs

    def runs_low(self, profile: str) -> bool:
        """Whether a queue that filled its batch has less than half of it left."""
        head = self._heads[profile]
        left = Counter(key for job in head.jobs for key in _queues(job))
        return any(left[key] < self._batch / 2 for key in head.full)

    def forget(self, profile: str) -> None:
        """Read again at the next pass."""
        self._heads.pop(profile, None)


def _queues(job: Waiting) -> Iterator[object]:
    """The queues that a job counts in: its region's, and of that the part without retries."""
    yield job.next_region
    if job.begun == 0:
        yield job.next_region, "fresh"
