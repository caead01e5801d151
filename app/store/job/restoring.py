"""After a restore: find and expire jobs whose clip is missing from the bucket."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Uuid, bindparam, text

from app.store.record import record


@record
class NamedClip:
    """A job that succeeded, and the object key of its clip."""

    job_id: UUID
    output_key: str


def named_clips(conn: Connection, *, after: UUID | None, limit: int) -> Sequence[NamedClip]:
    """The next `limit` clips that clients may still ask for, by job id. Plan: a walk of pk_jobs."""
    rows = conn.execute(
        text(
            """
            SELECT id, output_key FROM jobs
            WHERE state = 'succeeded' AND purged_at IS NULL
              AND (expires_at IS NULL OR expires_at > now())
              AND (CAST(:after AS uuid) IS NULL OR id > :after)
            ORDER BY id LIMIT :limit
            """
        ).bindparams(bindparam("after", type_=Uuid)),
        {"after": after, "limit": limit},
    )
    return [NamedClip(*row) for row in rows]


def expire(conn: Connection, job_ids: Sequence[UUID]) -> int:
    """Let these jobs expire now; returns how many did.

    Clients then get 410, and the next sweep removes what is left of them.
    """
    return conn.execute(
        text(
            """
            UPDATE jobs SET expires_at = now()
            WHERE id = ANY(:ids) AND state = 'succeeded' AND purged_at IS NULL
            """
        ).bindparams(bindparam("ids", type_=ARRAY(Uuid))),
        {"ids": list(job_ids)},
    ).rowcount
