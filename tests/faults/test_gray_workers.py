"""Workers that look idle but cannot work: cut off from Postgres or from their broker."""

import time

import pytest

from scripts.benchmarks.harness.valve import Valve
from tests.support import make
from tests.support.fleet import wait_for


@pytest.fixture
def valves():
    made = []

    def valve(url):
        made.append(Valve(url))
        return made[-1]

    yield valve
    for one in made:
        one.close()


def waits(fleet, count, **changes):
    """Seconds from submit to begin of each job; jobs are submitted one after the other."""
    found = []
    for _ in range(count):
        job_id = fleet.submit(**changes)
        job = fleet.wait(job_id, "succeeded", timeout_s=60)
        begun = [a.begun_at for a in make.attempts_of(fleet.store, job_id) if a.begun_at]
        found.append((begun[-1] - job.created_at).total_seconds())
    return found


def swallowed(fleet, count):
    """The regions of placements that nobody began, of `count` jobs one after the other."""
    found = []
    for _ in range(count):
        job_id = fleet.submit()
        fleet.wait(job_id, "succeeded", timeout_s=60)
        found += [a.region for a in make.attempts_of(fleet.store, job_id) if a.begun_at is None]
    return found


def idle(fleet, region):
    return fleet.redis.zcard(f"{{{region}/noop}}:idle")


def test_a_worker_that_cannot_reach_the_database_is_not_claimed(fleet, settings, valves):
    path = valves(settings.database_url)
    fleet.dispatcher()
    gray = fleet.worker(database_url=path.through).wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    path.refuse()
    fleet.worker("us-west").wait_ready()
    time.sleep(8.0)  # long enough to be noticed
    assert swallowed(fleet, 4) == []
    assert gray.alive


def test_a_worker_whose_database_connections_fell_silent_is_not_claimed(fleet, settings, valves):
    path = valves(settings.database_url)
    fleet.dispatcher()
    fleet.worker(database_url=path.through).wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    path.silence(new=True)
    fleet.worker("us-west").wait_ready()
    time.sleep(8.0)
    assert swallowed(fleet, 4) == []


def test_a_worker_that_its_broker_cannot_reach_is_not_claimed_for_long(fleet, settings, valves):
    """Its announcements travel by another connection, so it looks idle."""
    path = valves(settings.redis_url)
    fleet.dispatcher()
    fleet.worker(broker_url=path.through).wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    fleet.worker("us-west").wait_ready()
    wait_for(lambda: idle(fleet, "us-east") == 1)
    path.silence()
    found = waits(fleet, 3)
    # A claim, BEGIN_WITHIN_S and a round of overflow, twice; 7 to 9 s on two busy cores.
    assert max(found) < 15.0, found


def test_a_permanently_cut_off_worker_takes_no_jobs_from_the_others(fleet, settings, valves):
    """Both are in one pool: the other takes the job of the cut-off worker's claim."""
    path = valves(settings.redis_url)
    fleet.dispatcher()
    fleet.worker(broker_url=path.through).wait_ready()
    fleet.worker().wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    path.silence(new=True)
    found = waits(fleet, 6)
    assert max(found) < 5.0, found
