"""The operators' summary of the deployment, and the probes."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from app.public.job import WaitingFor
from app.public.response_model import ResponseModel
from stillmotion.states import JobState, Policy


class Percentiles(ResponseModel):
    p50_seconds: float | None
    p99_seconds: float | None


class LiveCounts(ResponseModel):
    queued: int
    starting: int
    processing: int


class EndedCounts(ResponseModel):
    window_seconds: float
    sampled: int
    succeeded: int
    failed: int
    canceled: int
    expired: int


class Times(ResponseModel):
    queue: Percentiles
    render: Percentiles


class RegionCounts(ResponseModel):
    id: str
    idle: int | None
    """Null: the region's Redis does not answer."""
    busy: int
    waiting: int


class WaitingJob(ResponseModel):
    id: UUID
    key: str
    state: JobState
    model: str
    home: str
    region: str | None
    policy: Policy
    priority: int
    waited_seconds: float
    expires_in_seconds: float
    waiting_for: WaitingFor | None
    backoff_seconds: float | None


class Reason(ResponseModel):
    code: str | None
    message: str


class FailedJob(ResponseModel):
    id: UUID
    state: JobState
    model: str
    region: str | None
    attempts_begun: int
    error: Reason
    finished_at: datetime


class Summary(ResponseModel):
    """Live jobs, waiting jobs, times and failures across all keys."""

    object: Literal["ops_summary"]
    at: datetime
    flower_url: str | None
    jobs: LiveCounts
    counted_up_to: int
    ended: EndedCounts
    times: Times
    regions: list[RegionCounts]
    waiting: list[WaitingJob]
    failures: list[FailedJob]


class Alive(ResponseModel):
    status: Literal["ok"]


class Ready(ResponseModel):
    """`degraded`: jobs are accepted, and placed by polling."""

    status: Literal["ok", "degraded", "unavailable"]
    parts: dict[str, str]
