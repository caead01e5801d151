"""The baseline: Celery, a broker and a task that does nothing, without any durability.

`worker-N` consumes; `publish N` fills the queue. BARE_BROKER is the broker's URL.
"""

import os
import sys

from celery import Celery

app = Celery("bare", broker=os.environ["BARE_BROKER"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_send_sent_event=True,
    worker_send_task_events=True,
    worker_prefetch_multiplier=1,
    task_default_queue="bare",
)


@app.task(name="bare.noop")  # type: ignore[untyped-decorator]  # Celery has no types
def noop(job_id: str, fence: int) -> None:
    pass


def main() -> None:
    if sys.argv[1] == "publish":
        with app.producer_pool.acquire(block=True) as producer:
            for n in range(int(sys.argv[2])):
                noop.apply_async((str(n), 1), producer=producer)
        return
    app.worker_main(
        [
            *("worker", "--pool=threads", "--concurrency=1", f"--hostname={sys.argv[1]}@bench"),
            *("--queues=bare", "--without-gossip", "--without-mingle", "--task-events"),
        ]
    )


if __name__ == "__main__":
    main()
