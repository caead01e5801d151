"""The Python client of the API.

    with Client("https://stillmotion.example", "sm_...") as client:
        job = client.wait(client.submit("photo.jpg", "gentle waves").id)
        client.download(job.id, "clip.mp4")

`AsyncClient` has the same methods for asyncio; `verify_webhook` checks what a receiver gets.
"""

from app.client.answers import (
    CompletedEvent,
    Delivery,
    Estimate,
    Event,
    Job,
    ProgressEvent,
    QueueEvent,
    StatusEvent,
    TimelineEntry,
    Upload,
    Usage,
    Webhook,
)
from app.client.asynchronous import AsyncClient
from app.client.errors import Fault, Rejected, UnexpectedAnswer, Unreachable, WaitTimeout
from app.client.jobs import Order
from app.client.receiving import WebhookMessage, verify_webhook
from app.client.sync import Client
from app.domain.job import JobState
from app.domain.webhooks import InvalidWebhook

__all__ = [
    "AsyncClient",
    "Client",
    "CompletedEvent",
    "Delivery",
    "Estimate",
    "Event",
    "Fault",
    "InvalidWebhook",
    "Job",
    "JobState",
    "Order",
    "ProgressEvent",
    "QueueEvent",
    "Rejected",
    "StatusEvent",
    "TimelineEntry",
    "UnexpectedAnswer",
    "Unreachable",
    "Upload",
    "Usage",
    "WaitTimeout",
    "Webhook",
    "WebhookMessage",
    "verify_webhook",
]
