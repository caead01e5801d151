"""Random faults on real processes: nothing is lost or done twice, and how fast they are over.

Everything is real except the render, which waits and returns a fixed clip: gunicorn, two
dispatchers, four GPU workers and two CPU workers in two regions, Postgres with fsync, a Valkey for
each region or RabbitMQ, webhooks to a receiver. Clients submit, poll, cancel and delete over HTTP.

The storm draws its faults from a seed: kills, freezes, cut, silent and slow paths, lost and flushed
Valkeys, failing storage, duplicated messages (`fault_kinds.py`). After it `fault_check.py` reads
Postgres, the bucket and the receiver's log. The scenarios hold everything else still and measure
one recovery each (`fault_scenarios.py`).

    scripts/bench faults --minutes 15 --seed 1 2 3 --broker valkey --json faults.json
    scripts/bench faults --scenarios
"""

import sys
from collections.abc import Sequence

from scripts.benchmarks import fault_scenarios, fault_storm
from scripts.benchmarks.fault_storm import Storm
from scripts.benchmarks.figures import Figure

MINUTES = 15.0
OUTAGE_S = 30.0
ROUNDS = 3  # of each recovery; the worst counts
RECOVERY: dict[str, float | None] = {
    "worker_kill_to_begun_s": 8.0,
    "valkey_back_to_begun_s": 5.0,
    "postgres_back_to_accepted_s": 5.0,
    "region_lost_to_overflow_s": None,
    "outage_recovery_ratio": 1.5,
}


def run(
    *,
    quick: bool = False,
    minutes: float | None = None,
    seeds: Sequence[int] = (1,),
    broker: str = "valkey",
    parts: Sequence[str] = ("storm", "scenarios"),
) -> list[Figure]:
    """The figures of both parts; those of a part that was left out have no value."""
    duration_s = 60 * (minutes if minutes is not None else 1.0 if quick else MINUTES)
    storms: list[Storm] = []
    if "storm" in parts:
        for seed in seeds:
            _say(f"storm of seed {seed}, {duration_s:.0f} s, {broker}")
            storms.append(fault_storm.run(seed, duration_s, broker=broker))
            _say(*storms[-1].lines())
    times: dict[str, float] = {}
    if "scenarios" in parts:
        outage_s = 10.0 if quick else OUTAGE_S
        rounds = 1 if quick else ROUNDS
        times = fault_scenarios.run(broker=broker, outage_s=outage_s, rounds=rounds, say=_say)
    return [
        *_counted(storms),
        *(Figure(name, times.get(name), at_most=most) for name, most in RECOVERY.items()),
    ]


def _counted(storms: list[Storm]) -> list[Figure]:
    if not storms:
        names = ("faults", "jobs", "lost", "doubled", "leaked")
        return [Figure(name, None, note="no storm was run") for name in names]
    verdicts = [storm.verdict for storm in storms]
    return [
        Figure("faults", sum(storm.faults.total() for storm in storms)),
        Figure("jobs", sum(storm.jobs for storm in storms)),
        Figure("lost", sum(len(each.lost) for each in verdicts), at_most=0),
        Figure("doubled", sum(len(each.doubled) for each in verdicts), at_most=0),
        Figure("leaked", sum(len(each.leaked) for each in verdicts), at_most=0),
    ]


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)
