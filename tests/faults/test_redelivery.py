"""Messages that a broker delivers again, at the worst moments."""

from celery import Celery

from tests.support import make
from tests.support.fleet import ends, wait_for

QUEUE = "animate.us-east.noop"


def send_again(fleet, job_id, fence):
    """Send a placement's message again, as a broker does after a lost connection."""
    url = fleet.settings.broker_url or fleet.settings.redis_url
    with Celery(broker=url, set_as_current=False) as app:
        app.send_task("stillmotion.render", args=[str(job_id), fence], queue=QUEUE)


def dropped(worker, job_id):
    """How often a worker dropped a message of this job as stale."""
    return sum(
        "stale" in str(line.get("event")) and str(job_id) in str(line) for line in worker.log
    )


def test_a_second_delivery_while_the_first_still_runs_begins_nothing(fleet):
    fleet.dispatcher()
    workers = [fleet.worker(noop_step_s=0.1).wait_ready() for _ in range(2)]
    job_id = fleet.submit(steps=40)
    fence = fleet.wait(job_id, "processing").fence
    for _ in range(3):
        send_again(fleet, job_id, fence)
    wait_for(lambda: sum(dropped(worker, job_id) for worker in workers) >= 1)
    job = fleet.wait(job_id, "succeeded", timeout_s=30)
    assert (job.begun, job.fence) == (1, fence)
    assert ends(job_id, *workers, last="succeeded") == ["succeeded"]


def test_a_delivery_after_the_end_changes_nothing(fleet):
    fleet.dispatcher()
    worker = fleet.worker().wait_ready()
    job_id = fleet.submit()
    before = fleet.wait(job_id, "succeeded")
    send_again(fleet, job_id, before.fence)
    wait_for(lambda: dropped(worker, job_id) == 1)
    assert fleet.read(job_id) == before
    assert fleet.objects.get(before.output_key)


def test_a_delivery_of_a_reclaimed_placement_begins_nothing(fleet):
    """The job waits again. Its fence is still that of the placement nobody began."""
    worker = fleet.worker().wait_ready()
    job_id = fleet.submit(policy="strict")
    with fleet.store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["token"])
    dispatcher = fleet.dispatcher()
    fleet.redis.delete("{us-east/noop}:idle")
    job = fleet.wait(job_id, "succeeded", timeout_s=20)
    send_again(fleet, job_id, placed.fence)
    wait_for(lambda: dropped(worker, job_id) == 1)
    assert fleet.read(job_id) == job
    assert (job.begun, dispatcher.alive) == (1, True)
    first, last = make.attempts_of(fleet.store, job_id)
    assert (first.outcome, last.outcome) == ("not_begun", "succeeded")
