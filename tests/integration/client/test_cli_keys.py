"""`stillmotion keys`, and the database it needs."""

import json
import time
from uuid import UUID

import pytest

from app.api.process.key_cache import REMEMBER_S
from app.store import keys
from stillmotion import cli
from stillmotion.cli import ExitStatus
from tests.support.command import one_sentence


def test_a_created_key_works_until_it_is_revoked(anonymous, database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert cli.run(["keys", "create", "--name", "ci"]) == 0
    out, err = capsys.readouterr()
    key = out.removesuffix("\n")
    assert key.startswith("sm_")
    assert len(key) == 46
    headers = {"Authorization": f"Bearer {key}"}
    assert anonymous.get("/v1/jobs", headers=headers).status_code == 200
    key_id = str(UUID(err.split()[1]))
    capsys.readouterr()  # the API's own log
    assert cli.run(["keys", "list"]) == 0
    assert capsys.readouterr().out == f"{key_id}  jobs        ci\n"
    assert cli.run(["keys", "revoke", key_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": key_id, "revoked": True}
    assert cli.run(["keys", "list"]) == 0
    assert capsys.readouterr().out == ""
    time.sleep(REMEMBER_S)
    assert anonymous.get("/v1/jobs", headers=headers).status_code == 401
    assert cli.run(["keys", "revoke", key_id]) == ExitStatus.USAGE


def test_a_key_is_created_with_its_limits(store, database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    limits = ["--max-concurrency", "2", "--submits-per-minute", "30"]
    assert cli.run(["keys", "create", "--name", "ci", *limits, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    with store.autocommit() as conn:
        key = keys.find(conn, made["key"])
    assert cli.run(["keys", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["submits_per_minute"]) == (made["id"], 30)
    assert (key.max_concurrency, key.submits_per_minute) == (2, 30)
    assert cli.run(["keys", "create", "--name", "x", "--max-concurrency", "0"]) == ExitStatus.USAGE


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("nonsense", ExitStatus.CONFIG),
        ("postgresql://app@127.0.0.1:1/none", ExitStatus.UNREACHABLE),
    ],
)
def test_a_wrong_or_unreachable_database_is_one_sentence(url, status, capsys):
    assert cli.run(["keys", "create", "--name", "x", "--database-url", url]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert one_sentence(err)


def test_a_database_without_our_tables_is_a_configuration_error(database_url, store, capsys):
    with store.autocommit() as conn:
        conn.exec_driver_sql("DROP DATABASE IF EXISTS empty")
        conn.exec_driver_sql("CREATE DATABASE empty")
    empty = database_url.rpartition("/")[0] + "/empty"
    arguments = ["keys", "create", "--name", "x", "--database-url", empty]
    assert cli.run(arguments) == ExitStatus.CONFIG
    assert "alembic upgrade head" in capsys.readouterr().err
