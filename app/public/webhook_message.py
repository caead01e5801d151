"""The messages that webhook receivers get. `app/domain/webhooks.py` encodes and signs them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict

from app.public.job import Job
from app.public.response_model import ResponseModel, may_lack
from stillmotion.signatures import WebhookEvent


class AnnouncedJob(Job):
    """A job, shortened if its message would be too long: old attempts go first, then metadata."""

    model_config = ConfigDict(json_schema_extra=may_lack("attempts", "metadata"))


class JobMessageData(ResponseModel):
    job: AnnouncedJob
    truncated: list[Literal["attempts", "metadata"]]
    """Fields of the job that are shortened or missing; its own URL shows them whole."""


class JobMessage(ResponseModel):
    """The end of a job, as sent to a webhook."""

    type: WebhookEvent
    timestamp: datetime
    """When the job ended."""
    data: JobMessageData


class TestMessageData(ResponseModel):
    webhook_id: UUID


class TestMessage(ResponseModel):
    """What `POST /v1/webhooks/{id}/test` sends."""

    type: Literal["webhook.test"]
    timestamp: datetime
    data: TestMessageData
