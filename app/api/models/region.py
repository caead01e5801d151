"""Regions, routing, and the operators' controls."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from app.api.models.base import WHOLE, RequestBody
from app.public.response_model import ResponseModel

MAX_CAP = 1_000_000


class RoutingTable(ResponseModel):
    """The routing table in use. Null: unknown."""

    version: int | None
    age_s: float | None
    mode: str
    pinned: bool
    overload: bool
    shed: float
    """The part of all submits that is refused because all regions together have too much."""
    gap_points: float | None


class RegionState(StrEnum):
    """Whether a region takes new jobs."""

    SERVING = "serving"
    DRAINED = "drained"  # by an operator; running jobs finish
    NO_WORKERS = "no_workers"
    UNKNOWN = "unknown"  # no dispatcher has reported on it lately


class RegionStatus(ResponseModel):
    """A region's workers, queue, load and routing. Null: unknown."""

    id: str
    object: Literal["region"]
    state: RegionState
    default: bool
    rtt_ms: dict[str, float]
    ring: dict[str, str]
    ready: int | None
    busy: int | None
    waiting: int | None
    service_s: float | None
    demand: float | None
    """Jobs submitted here per second."""
    report_age_s: float | None
    ceiling: float | None
    """The load that it should not exceed; null: unknown, or it has no capacity."""
    load: float | None
    """Planned use of its capacity; null: unknown, or it has no capacity."""
    shares: dict[str, float] | None
    """How this home's demand is split among the regions that serve it."""
    drained: bool
    cap: int | None


class RegionList(ResponseModel):
    object: Literal["list"]
    table: RoutingTable
    data: list[RegionStatus]


class Cap(RequestBody):
    """How many workers of a region may be busy at once."""

    workers: Annotated[int, Field(ge=0, le=MAX_CAP), WHOLE]


class Controls(ResponseModel):
    """The operators' decisions in force."""

    object: Literal["controls"]
    drained: list[str]
    caps: dict[str, int]
    drained_workers: list[str]
    pinned: bool
    unreached: list[str]
    """Regions whose Redis did not answer; the controller will pass the decision on."""
