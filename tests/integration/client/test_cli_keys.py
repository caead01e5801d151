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


LIMITS = {
    "max_concurrency": 2,
    "submits_per_minute": 30,
    "upload_mb_per_day": 500,
    "webhooks_in_flight": 3,
    "best_priority": 0,
}


def limit_options(limits):
    return [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]


def test_a_key_is_created_with_its_limits_and_shows_them(store, database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert cli.run(["keys", "create", "--name", "ci", *limit_options(LIMITS), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    with store.autocommit() as conn:
        assert keys.find(conn, made.pop("key")).limits == LIMITS
    assert made == {"id": made["id"], "name": "ci", "scopes": ["jobs"], **LIMITS}
    assert cli.run(["keys", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made
    wrong = ["--max-concurrency=-1", "--submits-per-minute=x", "--best-priority=3"]
    for option in wrong:
        assert cli.run(["keys", "create", "--name", "x", option]) == ExitStatus.USAGE


def test_a_key_without_limits_says_which_defaults_it_has(database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert cli.run(["keys", "create", "--name", "ci", "--upload-mb-per-day", "0"]) == 0
    [_, shown] = capsys.readouterr().err.splitlines()
    assert shown == (
        "limits concurrency: KEY_CONCURRENCY (unlimited unless set);"
        " submits per minute: SUBMITS_PER_MINUTE (300 unless set);"
        " MB of uploads per day: unlimited;"
        " webhooks in flight: WEBHOOKS_IN_FLIGHT (8 unless set); best priority: 1"
    )


def test_limits_of_a_key_are_changed_one_by_one(store, database_url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", database_url)
    with store.begin() as tx:
        key_id, _ = keys.create(tx, "ci", **LIMITS)
    change = ["keys", "update", str(key_id), "--submits-per-minute", "default"]
    assert cli.run([*change, "--webhooks-in-flight=0", "--json"]) == 0
    changed = LIMITS | {"submits_per_minute": None, "webhooks_in_flight": 0}
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"id": str(key_id), "name": "ci", "scopes": ["jobs"], **changed}
    with store.begin() as tx:
        assert keys.get(tx, key_id).limits == changed
        keys.revoke(tx, key_id)
    assert cli.run(["keys", "update", str(key_id), "--best-priority=1"]) == ExitStatus.USAGE


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
    assert "stillmotion migrate" in capsys.readouterr().err
