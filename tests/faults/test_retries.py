"""A backlog of retries, as after an outage, with real dispatchers and workers."""

import time

from sqlalchemy import text


def test_retries_over_the_budget_do_not_stop_a_pool(fleet):
    """70 jobs failed once; 10 fresh ones come after them; two workers are idle."""
    retries = [fleet.submit(steps=1, policy="strict") for _ in range(70)]
    with fleet.store.begin() as tx:
        tx.execute(text("UPDATE jobs SET begun = 1, fence = 1"))
    fresh = [fleet.submit(steps=1, policy="strict") for _ in range(10)]
    for _ in range(2):
        fleet.worker(noop_step_s=0.01)
    for _ in range(2):
        fleet.dispatcher()
    first = fleet.wait(fresh[0], "succeeded", timeout_s=60).finished_at

    def succeeded(ids) -> list:
        rows = [fleet.read(job) for job in ids]
        return [row for row in rows if row.state == "succeeded"]

    deadline = time.monotonic() + 60
    while len(succeeded([*retries, *fresh])) < 80 and time.monotonic() < deadline:
        time.sleep(0.5)
    done = succeeded(fresh)
    assert len(done) == 10
    assert max((row.finished_at - first).total_seconds() for row in done) < 5.0
    assert len(succeeded(retries)) == 70, "idle workers take retries that the budget holds back"
