"""Millions of jobs by SQL, as the service leaves them: for the benchmark and the tests of size."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
from psycopg import sql

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

# What the trigger note_labels writes for each job (migrations/versions/0012_lists.py).
LABELS = """
    INSERT INTO job_labels (owner_id, label, job_id)
    SELECT owner_id, substr(sha256(convert_to(key || chr(31) || value, 'UTF8')), 1, 8), id
    FROM jobs, jsonb_each_text(metadata) WHERE metadata <> '{}'
    ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING
"""
TABLES = ["jobs", "attempts"]
INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
    WHERE indrelid = ANY(%s::regclass[])
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
FOREIGN_KEYS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = ANY(%s::regclass[]) AND contype = 'f'
"""


@contextmanager
def bulk(conn: psycopg.Connection) -> Iterator[None]:
    """Fill the tables without what makes up most of the time of millions of inserts.

    Indexes, foreign keys and labels are added at the end; nothing else may use the database. If the
    block fails, they are missing. `conn` must autocommit.
    """
    indexes = conn.execute(INDEXES, (TABLES,)).fetchall()
    foreign_keys = conn.execute(FOREIGN_KEYS, (TABLES,)).fetchall()
    for table, name, _ in foreign_keys:
        _execute(conn, "ALTER TABLE {} DROP CONSTRAINT {}", table, name)
    for name, _ in indexes:
        _execute(conn, "DROP INDEX {}", name)
    conn.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
    yield
    conn.execute(LABELS)
    conn.execute("ALTER TABLE jobs ENABLE TRIGGER USER")
    for _, definition in indexes:
        conn.execute(definition)
    for table, name, definition in foreign_keys:
        _execute(conn, f"ALTER TABLE {{}} ADD CONSTRAINT {{}} {definition}", table, name)


def _execute(conn: psycopg.Connection, statement: str, *names: str) -> None:
    conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


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
