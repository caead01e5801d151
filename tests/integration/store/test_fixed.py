"""Fixed statements: run by psycopg itself, with SQLAlchemy's types, errors and transactions."""

import pytest
from sqlalchemy import Float, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.domain.errors import DatabaseUnavailable
from app.store.fixed import Fixed

TYPED = text("SELECT :shape ->> 'a', :names, :seconds + 0.5").bindparams(
    bindparam("shape", type_=JSONB),
    bindparam("names", type_=ARRAY(Text)),
    bindparam("seconds", type_=Float),
)
DIE = Fixed(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_values_have_the_types_that_the_statement_declares(store):
    with store.autocommit() as tx:
        values = {"shape": {"a": "100 %"}, "names": ["x", "y"], "seconds": 1.0, "more": object()}
        assert Fixed(TYPED).rows(tx, values) == [("100 %", ["x", "y"], 1.5)]


def test_a_transaction_that_fails_takes_the_statement_back(store):
    with pytest.raises(ZeroDivisionError), store.begin() as tx:
        Fixed(text("SELECT set_config('stillmotion.kept', 'no', false)")).rows(tx, {})
        raise ZeroDivisionError
    with store.autocommit() as tx:
        [(found,)] = Fixed(text("SELECT current_setting('stillmotion.kept', true)")).rows(tx, {})
    assert found != "no"


def test_what_the_server_refuses_is_sqlalchemys_error_without_the_values(store):
    with pytest.raises(DBAPIError) as refused, store.autocommit() as tx:
        Fixed(text("SELECT CAST(:secret AS text) || (1 / 0)::text")).rows(tx, {"secret": "s3cret"})
    assert "division by zero" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    with pytest.raises(IntegrityError), store.begin() as tx:
        Fixed(text("INSERT INTO attempts (job_id, fence) VALUES (NULL, 1) RETURNING 1")).rows(
            tx, {}
        )


@pytest.mark.parametrize("mode", ["begin", "autocommit"])
def test_a_lost_connection_is_reported_and_replaced(store, mode):
    connected = getattr(store, mode)
    with pytest.raises(DatabaseUnavailable), connected() as tx:
        DIE.rows(tx, {})
    with connected() as tx:
        assert Fixed(text("SELECT 1")).rows(tx, {}) == [(1,)]
