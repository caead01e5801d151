"""Examples for the OpenAPI document. They are instances of the models, so they stay valid."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from app.api.models.job_request import Estimate, EstimatedQueue, EstimatedRegion
from app.api.models.upload import Upload
from app.api.models.video import Video
from app.api.models.webhook import Delivery, WebhookWithSecret
from app.public.job import Job, Metrics, Output, Progress, Region, Urls
from app.public.present import present_understood
from app.public.webhook_message import AnnouncedJob, JobMessage, JobMessageData
from stillmotion.signatures import WebhookEvent
from stillmotion.states import JobState, Policy

HOST = "https://api.example.com"
ID = UUID("019a8b5c-7d3e-7f10-9a2b-3c4d5e6f7081")
WEBHOOK_ID = UUID("7b0f7c6e-2f5a-4d39-8c1e-0a9d8e7f6a5b")
T0 = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
T1 = T0 + timedelta(seconds=0.4)
T2 = T0 + timedelta(seconds=4.6)

# The smallest accepted picture: 16 x 16, one colour.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAGUlEQVR4nGNkaGhgIAUw"
    "kaR6VMOohiGlAQBBvQEg5hFlkQAAAABJRU5ErkJggg=="
)

JOB = Job(
    id=ID,
    state=JobState.SUCCEEDED,
    terminal=True,
    created_at=T0,
    started_at=T1,
    finished_at=T2,
    deadline=None,
    expires_at=T2 + timedelta(days=30),
    retention_seconds=2_592_000,
    model="motion-small",
    prompt="gentle waves",
    negative_prompt="",
    prompt_understood=present_understood("motion-small", "gentle waves"),
    seed=7,
    frames=48,
    fps=24,
    size=512,
    width=512,
    height=384,
    motion=1.0,
    loop=False,
    priority=1,
    cost_units=1.0,
    region=Region(home="us-east", policy=Policy.RING, allowed=None, current="us-east"),
    progress=Progress(step=8, steps=8),
    output=Output(
        url=f"{HOST}/v1/objects/outputs/{ID}/1-8c1f0a52b7d93e64.mp4?expires=1795612404&signature=...",
        expires_at=T2 + timedelta(hours=1),
        size_bytes=284_113,
    ),
    error=None,
    attempts=[],
    metrics=Metrics(queue=0.4, render=4.2, total=4.6, predicted=4.4),
    metadata={"order": "17"},
    webhook_url=None,
    webhook_events=None,
    urls=Urls(
        self=f"{HOST}/v1/jobs/{ID}",
        cancel=f"{HOST}/v1/jobs/{ID}/cancel",
        video=f"{HOST}/v1/jobs/{ID}/video",
        events=f"{HOST}/v1/jobs/{ID}/events",
        timeline=f"{HOST}/v1/jobs/{ID}/timeline",
    ),
)

_INSTANCES: list[BaseModel] = [
    JOB,
    Upload(
        id=ID,
        url=f"{HOST}/v1/objects/uploads/...?expires=1795612404&size=60412&signature=...",
        size_bytes=60_412,
        url_expires_at=T0 + timedelta(hours=1),
        expires_at=T0 + timedelta(days=1),
    ),
    WebhookWithSecret(
        id=WEBHOOK_ID,
        url="https://example.com/hook",
        events=[WebhookEvent.SUCCEEDED],
        enabled=True,
        disabled_reason=None,
        disabled_at=None,
        created_at=T0,
        previous_secret_until=None,
        secret="whsec_...",
    ),
    Delivery(
        id=ID,
        webhook_id=WEBHOOK_ID,
        job_id=ID,
        event="job.succeeded",
        url="https://example.com/hook",
        state="delivered",
        tries=1,
        created_at=T2,
        last_tried_at=T2,
        next_try_at=None,
        delivered_at=T2,
        last_status=204,
        last_error=None,
    ),
    JobMessage(
        type=WebhookEvent.SUCCEEDED,
        timestamp=T2,
        data=JobMessageData(job=AnnouncedJob.model_validate(JOB.model_dump()), truncated=[]),
    ),
    Video(
        id=ID,
        object="video",
        status="in_progress",
        progress=50,
        created_at=int(T0.timestamp()),
        completed_at=None,
        expires_at=None,
        model="motion-small",
        prompt="gentle waves",
        seconds="2",
        size="512x512",
        error=None,
        remixed_from_video_id=None,
    ),
    Estimate(
        object="estimate",
        model="motion-small",
        prompt_understood=JOB.prompt_understood,
        region=EstimatedRegion(
            home="us-east", policy=Policy.RING, allowed=None, predicted="us-east"
        ),
        queue=EstimatedQueue(position=3, wait_seconds=6.1, workers=4),
        eta_seconds=10.3,
        cost_units=1.0,
    ),
]
EXAMPLES: dict[type[BaseModel], Any] = {
    type(each): each.model_dump(mode="json") for each in _INSTANCES
}
