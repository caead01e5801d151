"""The storm: random faults, drawn from a seed, while clients use the service."""

import heapq
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks import fault_check
from scripts.benchmarks.fault_check import Verdict
from scripts.benchmarks.fault_clients import Crowd
from scripts.benchmarks.fault_kinds import Faults
from scripts.benchmarks.fault_testbed import Testbed

EVERY_S = 2.5  # mean time between two faults
CALM_S = 3.0  # before the first


@dataclass(frozen=True)
class Storm:
    """What one storm did, and what was wrong after it."""

    faults: Counter[str]
    jobs: int
    answers: Counter[str]
    settled_s: float
    verdict: Verdict

    def lines(self) -> list[str]:
        return [
            f"faults: {_counts(self.faults)}",
            f"answers: {_counts(self.answers)}",
            f"{self.jobs} jobs accepted; all had ended {self.settled_s:.0f} s after the last fault",
            *self.verdict.notes,
            *self.verdict.wrong,
        ]


def run(seed: int, duration_s: float, *, broker: str = "valkey", every_s: float = EVERY_S) -> Storm:
    """One storm on its own stack. The same seed draws the same faults, but what they hit depends
    on timing."""
    with (
        tempfile.TemporaryDirectory(prefix="stillmotion-storm-") as directory,
        Testbed(Path(directory), broker=broker) as testbed,
    ):
        crowd = Crowd(testbed, seed)
        crowd.start()
        try:
            time.sleep(CALM_S)
            faults = _rage(Faults(testbed, crowd, random.Random(seed)), seed, duration_s, every_s)
            _say("the storm is over")
            testbed.heal()
        finally:
            crowd.stop()
        settled_s = fault_check.settle(testbed)
        crowd.look_at_all()
        verdict = fault_check.check(testbed, crowd.ledger)
        if verdict.wrong:
            _keep(testbed, seed)
        return Storm(faults, len(crowd.ledger.jobs), crowd.ledger.answers, settled_s, verdict)


def _rage(faults: Faults, seed: int, duration_s: float, every_s: float) -> Counter[str]:
    """Strike until the time is over, then end the faults that still last."""
    draw = random.Random(seed + 1)
    made: Counter[str] = Counter()
    ends: list[tuple[float, int, str, Callable[[], None]]] = []
    order = itertools.count()
    began = time.monotonic()
    due = began
    while due - began < duration_s:
        while ends and ends[0][0] <= due:
            at, _, what, end = heapq.heappop(ends)
            time.sleep(max(0.0, at - time.monotonic()))
            end()
            _say(f"{time.monotonic() - began:7.1f} s  end of {what}")
        time.sleep(max(0.0, due - time.monotonic()))
        kind, struck = faults.strike()
        made[kind] += 1
        now = time.monotonic()
        _say(f"{now - began:7.1f} s  {kind}: {struck.target} {struck.lasts_s:.1f} s")
        if struck.end is not None:
            what = f"{kind}: {struck.target}"
            heapq.heappush(ends, (now + struck.lasts_s, next(order), what, struck.end))
        due = max(now, due) + draw.expovariate(1 / every_s)
    for *_, end in ends:
        end()
    return made


def _keep(testbed: Testbed, seed: int) -> None:
    """Keep the logs of a storm that went wrong."""
    kept = Path(tempfile.mkdtemp(prefix=f"stillmotion-storm-seed-{seed}-"))
    for log in testbed.stack.data.logs.glob("*.log"):
        (kept / log.name).write_bytes(log.read_bytes())
    _say(f"the logs are in {kept}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counter.items()))
