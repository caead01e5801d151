"""Messages through a broker carry ids only. The row in Postgres holds everything else."""

from uuid import UUID

RENDER = "stillmotion.render"
DELIVER = "stillmotion.deliver"
SWEEP = "stillmotion.sweep"
WEBHOOKS_QUEUE = "webhooks"
HOUSEKEEPING_QUEUE = "housekeeping"


def task_id(job_id: UUID, fence: int) -> str:
    """The Celery task id of one attempt; readable in Flower."""
    return f"{job_id}:{fence}"
