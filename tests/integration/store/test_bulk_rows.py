"""Rows that are added in bulk are like those that are not, and the schema is as it was."""

import psycopg
import pytest

from app.store import keys
from scripts.benchmarks import scale_rows

ROWS = 40
SCHEMA = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace ORDER BY 1",
    "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
)
LABELS = "SELECT label, count(*) FROM job_labels WHERE owner_id = %s GROUP BY 1 ORDER BY 1"
ATTEMPTS = """
    SELECT state, outcome, count(*) FROM jobs JOIN attempts ON job_id = id
    WHERE owner_id = %s GROUP BY 1, 2
"""


@pytest.fixture
def conn(settings, store):
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        yield connection


def schema(conn) -> list[list[tuple]]:
    return [conn.execute(query).fetchall() for query in SCHEMA]


def test_bulk_adds_the_same_rows_and_restores_the_schema(conn, store):
    with store.begin() as tx:
        single, bulk = (keys.create(tx, name)[0] for name in ("single", "bulk"))
    before = schema(conn)
    scale_rows.add_finished(conn, single, ROWS)
    with scale_rows.bulk(conn):
        scale_rows.add_finished(conn, bulk, ROWS)
    assert schema(conn) == before
    for query in (LABELS, ATTEMPTS):
        expected = conn.execute(query, (single,)).fetchall()
        assert conn.execute(query, (bulk,)).fetchall() == expected
        assert sum(row[-1] for row in expected) >= ROWS
