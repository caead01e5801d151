"""GPU workers and their set-up."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.api.models.base import Query
from app.broker.setups import LINE_CHARS, LINES
from app.domain.worker_phase import WorkerPhase
from app.public.response_model import ResponseModel

MAX_SHOWN = 500


class WorkersQuery(Query):
    """The query of the list of workers."""

    region: Annotated[str, Field(max_length=255)] | None = None
    """Show this region's only."""
    limit: Annotated[int, Field(ge=1, le=MAX_SHOWN)] = 100
    """The most of each region."""


class WorkerSetup(ResponseModel):
    """A GPU worker process: what it does, or did, before it can take jobs."""

    id: str
    object: Literal["worker"]
    region: str
    model: str
    phase: WorkerPhase
    since: datetime
    """When this phase began."""
    log: Annotated[list[Annotated[str, Field(max_length=LINE_CHARS)]], Field(max_length=LINES)]
    """The last lines of the set-up, oldest first."""


class WorkerList(ResponseModel):
    object: Literal["list"]
    data: list[WorkerSetup]
    has_more: bool
    """Some region has more workers than `limit`."""
    unreached: list[str]
    """Regions whose Redis did not answer."""
