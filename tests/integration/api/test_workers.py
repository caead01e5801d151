"""`GET /v1/workers`: what workers do before they can take jobs, of real processes and bounded."""

import dataclasses
import json
import time

import pytest

from app.api.application import create_app
from app.broker import keys as names
from app.broker import setups
from app.broker.setups import LINE_CHARS, LINES, Setup
from app.domain.worker_phase import WorkerPhase
from app.store import keys
from stillmotion.cli import ExitStatus, run
from tests.support import calls, services
from tests.support.fleet import fleet as make_fleet
from tests.support.fleet import wait_for

ALONE = Setup("gpu-us-east-1@host", "noop", WorkerPhase.READY, time.time(), ("info loaded",))


@pytest.fixture
def admin(app, store):
    with store.begin() as tx:
        key = keys.create(tx, "operator", ("admin",))[1]
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


def shown(admin, query=""):
    return admin.get(f"/v1/workers{query}").get_json()


def test_a_worker_shows_its_phases_and_why_it_failed(
    admin, change, store, tmp_path, server, monkeypatch, capsys
):
    models = tmp_path / "models"
    models.mkdir()
    noop = (services.ROOT / "workers/engines/noop/profiles/noop.toml").read_text()
    strange = noop.replace('name = "noop"', 'name = "strange"')
    (models / "strange.toml").write_text(strange.replace('engine = "noop"', 'engine = "nowhere"'))
    seen: dict[str, list[str]] = {}

    def look(until):
        for each in shown(admin)["data"]:
            phases = seen.setdefault(each["model"], [])
            if each["phase"] not in phases:
                phases.append(each["phase"])
        return until()

    config = change(model_profiles=models, served_profiles=("noop", "strange"))
    with make_fleet(config, store, tmp_path) as fleet:
        fleet.worker(noop_warm_up_s=1.0)
        failing = fleet.worker(model_profile="strange")
        ended = {"noop": "ready", "strange": "failed"}
        wait_for(lambda: look(lambda: {m: p[-1] for m, p in seen.items()} == ended), timeout_s=30)
        assert failing.wait_exit(10) == 78
        ready, failed = sorted(shown(admin)["data"], key=lambda each: each["model"])
    assert "warming" in seen["noop"]
    assert ready["region"] == "us-east" and ready["id"].startswith("gpu-us-east-")
    assert ready["log"][-1] == "info setup_phase phase=ready"
    assert failed["log"][-1] == "Profile 'strange' names an unknown engine, 'nowhere'."
    # As an operator sees it, through the API's own process.
    key = admin.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    monkeypatch.setenv("STILLMOTION_SERVER", server)
    monkeypatch.setenv("STILLMOTION_API_KEY", key)
    assert run(["workers", "list"]) == ExitStatus.OK
    out = capsys.readouterr().out
    assert f"{failed['id']}  us-east  strange  failed  Profile 'strange' names" in out
    assert f"{ready['id']}  us-east  noop  ready\n" in out


def test_what_is_shown_is_bounded_and_junk_is_not_shown(admin, client):
    long = dataclasses.replace(ALONE, log=tuple(f"{n} " + "ü" * 999 for n in range(99)))
    setups.write(client, "us-east", long)
    for number in range(3):
        other = dataclasses.replace(ALONE, worker=f"gpu-eu-{number}@host")
        setups.write(client, "eu-west", other)
    junk = {"a": "[]", "b": "{", "c": json.dumps({"worker": "c", "log": []}), "d": "x" * 10**6}
    junk["e"] = json.dumps(dataclasses.asdict(ALONE) | {"since": 1e300})
    for worker, text in junk.items():
        client.set(names.setup("us-east", worker), text)
        client.zadd(names.setups("us-east"), {worker: 9e9})
    client.zadd(names.setups("us-east"), {"gone": 9e9, "ended": 1})
    found = shown(admin)
    assert [each["id"] for each in found["data"] if each["region"] == "us-east"] == [ALONE.worker]
    (line, *_) = log = next(each["log"] for each in found["data"] if each["id"] == ALONE.worker)
    assert len(log) == LINES and len(line) == LINE_CHARS and log[-1].startswith("98 ")
    assert not found["has_more"] and found["unreached"] == []
    some = shown(admin, "?region=eu-west&limit=2")
    assert [each["id"] for each in some["data"]] == ["gpu-eu-0@host", "gpu-eu-1@host"]
    assert some["has_more"]


def test_workers_are_for_operators(api, admin, anonymous):
    calls.assert_problem(anonymous.get("/v1/workers"), 401, "missing_api_key")
    calls.assert_problem(api.get("/v1/workers"), 403, "insufficient_scope")
    calls.assert_problem(admin.get("/v1/workers?region=mars"), 404, "region_not_found")
    calls.assert_problem(admin.get("/v1/workers?limit=0"), 422, "invalid_field", "/limit")
    calls.assert_problem(admin.get("/v1/workers?limit=501"), 422, "invalid_field", "/limit")


def test_a_region_whose_redis_is_away_is_named(change, contract, store):
    app = create_app(change(redis_url=f"redis://127.0.0.1:{services.free_port()}/0"))
    with store.begin() as tx:
        key = keys.create(tx, "operator", ("admin",))[1]
    got = app.test_client().get("/v1/workers", headers={"Authorization": f"Bearer {key}"})
    app.extensions["services"].close()
    assert got.status_code == 200 and got.get_json()["data"] == []
    assert "us-east" in got.get_json()["unreached"]
