"""Millions of jobs by SQL, as the service leaves them: for the benchmark and the tests of size."""

from uuid import UUID

import psycopg

CHUNK = 100_000
# A UUIDv7 of a time, as app.domain.job.state.uuid7 makes them.
ID_AT = """(
    lpad(to_hex(floor(extract(epoch FROM {at}) * 1000)::bigint), 12, '0')
    || '7' || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15)
)::uuid"""
FINISHED = f"""
    WITH made AS (
        SELECT n, {ID_AT.format(at="at")} AS id, at FROM (
            SELECT n, now() - interval '1 min'
                - make_interval(secs => %(span_s)s * (1 - n::float8 / %(rows)s)) AS at
            FROM generate_series(%(first)s::int, %(last)s::int) AS n) AS moments
    ), jobs_made AS (
        INSERT INTO jobs (
            id, owner_id, state, created_at, profile, prompt, seed, frames, fps, size, steps,
            input_key, home_region, policy, next_region, queue_deadline, fence, begun, region,
            placed_at, started_at, finished_at, output_key, output_bytes, expires_at, purged_at,
            metadata)
        SELECT id, %(owner)s, 'succeeded', at, 'noop', 'The waves roll in, the camera pans left.',
            n, 48, 24, 512, 8, 'inputs/' || id || '.jpg', 'us-east', 'ring', 'us-east',
            at + interval '15 min', 1, 1, 'us-east', at + interval '1 s', at + interval '1 s',
            at + interval '4 s', 'outputs/' || id || '/1-0123456789abcdef.mp4', 400000,
            at + interval '4 s' + make_interval(days => 365),
            CASE WHEN %(purged)s THEN now() END,
            CASE
                WHEN %(purged)s THEN '{{}}'
                WHEN n <= 20 THEN '{{"shop": "main", "campaign": "spring"}}'
                ELSE '{{"shop": "main"}}'
            END::jsonb
        FROM made
    )
    INSERT INTO attempts (
        job_id, fence, region, token, hops, placed_at, begun_at, worker, ended_at, outcome, timings)
    SELECT id, 1, 'us-east', substr(md5(id::text), 1, 16),
        '[{{"region": "us-east", "outcome": "placed"}}]', at + interval '1 s',
        at + interval '1 s', 'gpu-us-east-1a2b3c4d@host', at + interval '4 s', 'succeeded',
        '{{"fetch": 0.01, "render": 2.9, "sign": 0.01, "upload": 0.05}}'
    FROM made
"""
WAITING = f"""
    INSERT INTO jobs (
        id, owner_id, state, profile, prompt, seed, frames, fps, size, steps, input_key,
        home_region, policy, next_region, queue_deadline, vstart)
    SELECT {ID_AT.format(at="now() + make_interval(secs => n / 1000.0)")}, %(owner)s, 'queued',
        'noop', '', n, 48, 24, 512, 8, 'inputs/any.jpg', 'us-east', 'ring', 'us-east',
        now() + interval '1 day', n
    FROM generate_series(1, %(rows)s::int) AS n
"""


def add_finished(
    conn: psycopg.Connection, owner: UUID, rows: int, *, days: float = 30.0, purged: bool = False
) -> None:
    """Add succeeded jobs, one attempt each, spread over the last `days`.

    All have the label shop=main; the 20 oldest also have campaign=spring. `purged`: as tombstones.
    `conn` must autocommit.
    """
    values = {"owner": owner, "rows": rows, "span_s": days * 86_400, "purged": purged}
    for first in range(1, rows + 1, CHUNK):
        conn.execute(FINISHED, {**values, "first": first, "last": min(rows, first + CHUNK - 1)})


def add_waiting(conn: psycopg.Connection, owner: UUID, rows: int) -> None:
    """Add jobs that wait in one queue."""
    conn.execute(WAITING, {"owner": owner, "rows": rows})


def freeze_statistics(conn: psycopg.Connection) -> None:
    """Gather statistics now, and never again: live jobs that come later are not in them.

    The indexes of live jobs have had entries, and have none now, as in a quiet hour.
    """
    for table in ("jobs", "attempts"):
        conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        conn.execute(f"VACUUM (ANALYZE) {table}")


def let_statistics_age(conn: psycopg.Connection, owner: UUID) -> None:
    """`freeze_statistics` of tables whose last live jobs have just ended."""
    add_waiting(conn, owner, 100)
    for state in (
        "'starting', fence = 1",
        "'processing', begun = 1, lease_until = now(), attempt_until = now()",
        "'canceled', lease_until = NULL, attempt_until = NULL, finished_at = now()",
    ):
        conn.execute(
            f"UPDATE jobs SET state = {state}"
            " WHERE state NOT IN ('canceled', 'expired', 'failed', 'succeeded')"
        )
    conn.execute("DELETE FROM jobs WHERE state = 'canceled'")
    freeze_statistics(conn)
