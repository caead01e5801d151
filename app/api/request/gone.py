"""Jobs that are no more: deleted by their owner, or past their retention."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from app.domain.errors import BadRequest


def refuse_gone(row: Row[Any]) -> None:
    """Raises BadRequest (job_deleted, 410) for a tombstone, or what the sweeper makes one soon."""
    expired = row.expires_at is not None and row.expires_at <= datetime.now(UTC)
    if row.purged_at is not None or expired:
        raise BadRequest(
            "job_deleted", "The job was deleted, or its retention time is over.", status=410
        )
