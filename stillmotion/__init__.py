"""The Python client of the API.

    with Client("https://stillmotion.example", "sm_...") as client:
        job = client.wait(client.submit("photo.jpg", "gentle waves").id)
        client.download(job.id, "clip.mp4")

`AsyncClient` has the same methods for asyncio; `verify_webhook` checks what a receiver gets.
"""

from stillmotion.answers import (
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
from stillmotion.asynchronous import AsyncClient
from stillmotion.errors import Fault, Rejected, UnexpectedAnswer, Unreachable, WaitTimeout
from stillmotion.jobs import Order
from stillmotion.signatures import InvalidWebhook
from stillmotion.states import JobState
from stillmotion.sync import Client
from stillmotion.webhooks import WebhookMessage, verify_webhook

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
