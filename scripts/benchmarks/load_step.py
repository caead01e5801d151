"""The measurements of one step of the load benchmark."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.load_clients import percentile
from scripts.benchmarks.load_watch import Use

SUBMIT_P99_MS, SUCCESS = 100.0, 0.999


@dataclass(frozen=True)
class Step:
    """One rate, held for a while. Rates in jobs/s, times in milliseconds."""

    rate: float  # of jobs falling due
    submit_ms: NDArray[np.float64]
    done_ms: NDArray[np.float64]  # of succeeded jobs, from due to finished
    sent_late_ms: float  # p99
    success: float
    stages_ms: dict[str, float]  # p99 of each
    use: Use

    @property
    def submit_p99_ms(self) -> float:
        return percentile(self.submit_ms, 0.99)

    @property
    def passes(self) -> bool:
        return self.submit_p99_ms <= SUBMIT_P99_MS and self.success >= SUCCESS
