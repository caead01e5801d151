"""Our no-op render as Ray Serve's asynchronous inference. Runs in the peer's own environment.

Built as in Ray's documentation: an ingress that enqueues tasks and reads their state, and a task
consumer that uses the Celery adapter with Redis as broker and result backend. The message contains
the name of the picture's file. PEER_PORT, PEER_FOLDER (empty) and PEER_BROKER say where to run.
PEER_CLIP is the result of every render. Renders wait while the file PEER_HOLD exists.
"""

import os
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.schema import CeleryAdapterConfig, TaskProcessorConfig
from ray.serve.task_consumer import (
    instantiate_adapter_from_config,
    task_consumer,
    task_handler,
)
from starlette.requests import Request

CLIP = Path(os.environ["PEER_CLIP"]).read_bytes()
HOLD = Path(os.environ["PEER_HOLD"])
FOLDER = Path(os.environ["PEER_FOLDER"])
QUEUE = TaskProcessorConfig(
    queue_name="animate",
    adapter_config=CeleryAdapterConfig(
        broker_url=os.environ["PEER_BROKER"], backend_url=os.environ["PEER_BROKER"]
    ),
)


# Two replicas with one render at a time each.
@serve.deployment(num_replicas=2, max_ongoing_requests=1)
@task_consumer(task_processor_config=QUEUE)
class Renderer:
    @task_handler(name="animate")  # type: ignore[untyped-decorator]  # as above
    def animate(self, picture: str) -> str:
        while HOLD.exists():
            time.sleep(0.002)
        clip = Path(picture).with_suffix(".mp4")
        clip.write_bytes(CLIP)
        return str(clip)


@serve.deployment
class Jobs:
    def __init__(self, renderer: Any):  # Ray's handle of the other deployment
        self._queue = instantiate_adapter_from_config(QUEUE)

    async def __call__(self, request: Request) -> dict[str, str]:
        if request.method != "POST":
            task = self._queue.get_task_status_sync(request.query_params["id"])
            return {"status": task.status}
        async with request.form() as form:
            picture = FOLDER / f"{uuid.uuid4()}.jpg"
            picture.write_bytes(await form["image"].read())
        return {"id": self._queue.enqueue_task_sync("animate", args=[str(picture)]).id}


def main() -> None:
    # Four of Ray's slots, whatever the machine has: its controller counts one CPU per replica.
    ray.init(num_cpus=4, include_dashboard=False, _temp_dir=str(FOLDER))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Jobs.bind(Renderer.bind()))  # type: ignore[attr-defined]  # by the decorator
    try:
        while True:
            signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
