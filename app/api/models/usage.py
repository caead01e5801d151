"""What a key has used, by day."""

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from app.api.models.base import Day, Query
from app.public.response_model import ResponseModel

DEFAULT_USAGE_DAYS, MAX_USAGE_DAYS = 30, 92


class UsageQuery(Query):
    """The days of a usage report, both inclusive, UTC."""

    start: Day | None = None
    """Default: 29 days before the end."""
    # The view fills in the database's today; this default only makes the field optional.
    end: Day = Field(default_factory=lambda: datetime.now(UTC).date(), validate_default=True)
    """Default: today; at most 91 days after the start."""

    @field_validator("end")
    @classmethod
    def in_order(cls, end: date, info: ValidationInfo) -> date:
        start = info.data.get("start")
        if start is not None and not 0 <= (end - start).days < MAX_USAGE_DAYS:
            raise ValueError(f"must be 0 to {MAX_USAGE_DAYS - 1} days after start")
        return end

    @property
    def first_day(self) -> date:
        return self.start or self.end - timedelta(days=DEFAULT_USAGE_DAYS - 1)


class UsageEntry(ResponseModel):
    day: date
    model: str
    jobs: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    cost_units: float
    gpu_seconds: float


class Usage(ResponseModel):
    """Jobs by day of submit and by model; days without jobs are omitted."""

    object: Literal["usage"]
    start: date
    end: date
    data: list[UsageEntry]
