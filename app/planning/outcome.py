"""Results of a simulated run: counts over time, and figures derived from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BUCKET_S = 1.0

Series = NDArray[np.float64]


@dataclass
class Record:
    """Counters in buckets of BUCKET_S by time of occurrence; (buckets,) or (regions, buckets).

    A *try* is one submission; a user whose try fails may submit again. A try is served if a worker
    takes it before its user's patience ends.
    """

    regions: Sequence[str]
    duration_s: float
    users: Series = field(init=False)  # first submissions
    tries: Series = field(init=False)
    tries_served: Series = field(init=False)  # by time of *submission*
    shed: Series = field(init=False)  # by time of submission
    served: Series = field(init=False)  # by time of the start
    at_home: Series = field(init=False)  # subset of `served`
    attempts: Series = field(init=False)  # workers asked for
    busy_s: Series = field(init=False)  # (regions, buckets) worker seconds
    ready_s: Series = field(init=False)
    waits: list[tuple[float, float, int]] = field(default_factory=list)  # submitted, wait, home
    latencies: list[float] = field(default_factory=list)  # submit to clip at home, seconds
    rtt_ms: float = 0.0  # summed over served tries
    table_changes: list[float] = field(default_factory=list)  # times
    tables_refused: int = 0
    lost: int = 0  # attempts that died with their region
    unserved_users: int = 0

    def __post_init__(self) -> None:
        buckets = int(np.ceil(self.duration_s / BUCKET_S)) + 1
        for name in ("users", "tries", "tries_served", "shed", "served", "at_home", "attempts"):
            setattr(self, name, np.zeros(buckets))
        self.busy_s = np.zeros((len(self.regions), buckets))
        self.ready_s = np.zeros((len(self.regions), buckets))

    def success(self, start_s: float = 0.0, end_s: float | None = None) -> float:
        """Fraction of the tries submitted in this interval that were served."""
        part = self._part(start_s, end_s)
        tries = self.tries[part].sum()
        return float(self.tries_served[part].sum() / tries) if tries else 1.0

    def failures(self, start_s: float = 0.0, end_s: float | None = None) -> int:
        """Number of tries submitted in this interval that were shed or ran out of patience."""
        part = self._part(start_s, end_s)
        return int(self.tries[part].sum() - self.tries_served[part].sum())

    def in_region(self, start_s: float = 0.0, end_s: float | None = None) -> float:
        """Fraction of the starts in this interval that happened in the job's home region."""
        part = self._part(start_s, end_s)
        served = self.served[part].sum()
        return float(self.at_home[part].sum() / served) if served else 1.0

    def wait_quantile(
        self, q: float, start_s: float = 0.0, end_s: float | None = None, home: int | None = None
    ) -> float:
        """Seconds from submit to start of served tries submitted in this interval (at `home`)."""
        end_s = self.duration_s if end_s is None else end_s
        waits = [
            wait
            for at, wait, where in self.waits
            if start_s <= at < end_s and home in (None, where)
        ]
        return float(np.quantile(waits, q)) if waits else 0.0

    def attempts_per_job(self, start_s: float = 0.0, end_s: float | None = None) -> float:
        """Requests for a worker, per try that was not shed at submit."""
        part = self._part(start_s, end_s)
        accepted = self.tries[part].sum() - self.shed[part].sum()
        return float(self.attempts[part].sum() / accepted) if accepted else 0.0

    def utilisation(self, start_s: float = 0.0, end_s: float | None = None) -> float:
        """Busy fraction of all ready workers' time."""
        part = self._part(start_s, end_s)
        ready = self.ready_s[:, part].sum()
        return float(self.busy_s[:, part].sum() / ready) if ready else 0.0

    def region_load(self, window_s: float) -> Series:
        """(regions, buckets): busy fraction of workers in the last `window_s`; NaN: no workers."""
        with np.errstate(invalid="ignore", divide="ignore"):
            load: Series = _rolling(self.busy_s, window_s) / _rolling(self.ready_s, window_s)
        return load

    def goodput(self, window_s: float) -> Series:
        """(buckets,): tries served over users who arrived in the last `window_s`, at most 1.

        Not per try: a user who is refused ten times and then served counts as served.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = _rolling(self.served, window_s) / _rolling(self.users, window_s)
        return np.minimum(np.nan_to_num(ratio, nan=1.0, posinf=1.0), 1.0)

    def rolling(self, top: Series, bottom: Series, window_s: float) -> Series:
        """(buckets,): ratio of two counters over the last `window_s`; NaN where `bottom` is 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio: Series = _rolling(top, window_s) / _rolling(bottom, window_s)
        return ratio

    def _part(self, start_s: float, end_s: float | None) -> slice:
        end_s = self.duration_s if end_s is None else end_s
        return slice(int(start_s / BUCKET_S), int(end_s / BUCKET_S))


def _rolling(counts: Series, window_s: float) -> Series:
    """Moving sums over the last `window_s` along the last axis."""
    width = max(1, round(window_s / BUCKET_S))
    total = np.cumsum(counts, axis=-1)
    before = np.zeros_like(total)
    before[..., width:] = total[..., :-width]
    sums: Series = total - before
    return sums
