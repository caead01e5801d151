"""Jobs: lists, their queries, and the stream of events. A job itself is `app/public/job.py`."""

import re
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.models.base import Labels, Moment, Page, PageSize, Query
from app.public.job import Job
from app.public.response_model import ResponseModel
from stillmotion.states import JobState


class JobPage(Page[Job]):
    """Jobs, newest first, without `attempts`."""


class PageQuery(Query):
    """The query of a list of jobs. Labels are sent as `metadata[name]=value`."""

    limit: PageSize = 20
    after: UUID | None = None
    """The `next` of the previous page."""
    state: JobState | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    metadata: Labels = Field(default={})
    """Only jobs that have all of these labels, sent as `metadata[name]=value`."""


_LABEL = re.compile(r"metadata\[(.*)\]", re.DOTALL)


def page_values(args: dict[str, str]) -> dict[str, object]:
    """A list's query with its `metadata[name]` parameters collected into one dict."""
    values: dict[str, object] = {}
    labels: dict[str, str] = {}
    for name, value in args.items():
        if match := _LABEL.fullmatch(name):
            labels[match[1]] = value
        else:
            values[name] = value
    return values | ({"metadata": labels} if labels else {})


class EventsQuery(Query):
    """The query of a stream of events."""

    last_event_id: str | None = Field(
        default=None, alias="lastEventId", pattern=r"^([0-9]{1,9}[.][0-4][.][0-9]{1,9})?$"
    )
    """For clients that cannot send the header `Last-Event-ID`."""


class StreamedEvent(ResponseModel):
    """One server-sent event. `status` is sent on every change of state, `progress` on every step,
    `queue` from time to time while the job waits, and `completed` once, at the end."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    event: Literal["status", "progress", "queue", "completed"]
    data: str
    """JSON. `status`: `state`, `terminal`, `at`, `attempt`, `region`, `reason`; `progress`: `step`,
    `steps`, `attempt`, `eta_seconds`, `at`; `queue`: as in `Job`, with `eta_seconds`; `completed`:
    the `Job`."""
    id: str | None = None
    """Send it as `Last-Event-ID` to resume; `queue` events have none."""
