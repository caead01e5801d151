"""Regions as clients see them, operators' verbs with their audit, and admission at submit."""

import io
import time
from dataclasses import replace

import pytest

from app.api.application import create_app
from app.broker import traffic
from app.dispatcher.control.controller import Controller
from app.domain.routing.admission import RETRY_AFTER_LEAST_S, RETRY_AFTER_MOST_S
from app.domain.routing.controls import Controls
from app.domain.routing.topology import Pool
from app.store import keys
from app.store.job import attempts
from app.store.traffic import controls
from stillmotion.cli import ExitStatus, run
from tests.support import calls, make
from tests.support.deployment import NAMES, report, table

DOWN = {"ready": 0, "busy": 0}


def client_of(deployment, scopes=("jobs",), **changes):
    app = create_app(deployment.settings.model_copy(update=changes))
    with deployment.store.begin() as tx:
        plain = keys.create(tx, "-".join(scopes), scopes)[1]
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
    return client


@pytest.fixture
def make_client(deployment):
    """A function that makes a client of the API over the test's deployment."""
    clients = []

    def make_one(*scopes, **changes):
        clients.append(client_of(deployment, scopes or ("jobs",), **changes))
        return clients[-1]

    yield make_one
    for client in clients:
        client.application.extensions["services"].close()


def in_force(deployment):
    return Controls.from_json(traffic.read(deployment.client, []).controls)


def test_regions_show_their_state_and_the_table(deployment, make_client):
    deployment.publish(
        table(version=7, shares={n: {n: 1.0} for n in NAMES} | {"home": {"near": 1.0}})
    )
    deployment.reports(home={"waiting": 3})
    answer = make_client().get("/v1/regions").get_json()
    home = next(region for region in answer["data"] if region["id"] == "home")
    assert {name: home[name] for name in ("ready", "busy", "waiting", "ceiling", "load")} == {
        "ready": 20,
        "busy": 10,
        "waiting": 3,
        "ceiling": 0.9,
        "load": 0.5,
    }
    assert home["shares"] == {"near": 1.0}
    assert home["ring"] == {"near": "near", "middle": "far", "distant": "any"}
    assert (home["drained"], home["cap"]) == (False, None)
    assert answer["table"]["version"] == 7 and answer["table"]["mode"] == "normal"
    assert 0 <= answer["table"]["age_s"] < 30


def test_a_region_without_capacity_has_no_load(deployment, make_client, store):
    """One region drained, one without workers, one silent, all with demand of their own."""
    with deployment.store.begin() as tx:
        key = keys.find(tx, keys.create(tx, "operator", ("admin",))[1])
        controls.change(tx, key, "test", "drained", "near", True)
    user = make_client()
    deployment.reports(**{name: {"ready": 3, "busy": 0} for name in NAMES} | {"middle": DOWN})
    deployment.client.delete("stillmotion:report:distant")
    with store.session() as session:
        made = Controller(deployment.settings, store, deployment.redis, "c").cycle(session)
    assert made.load["near"] > 1e6, "what could not leave counts against no capacity"
    answer = user.get("/v1/regions").get_json()
    shown = {one["id"]: (one["state"], one["load"], one["ceiling"]) for one in answer["data"]}
    assert shown == {
        "home": ("serving", made.load["home"], made.ceilings["home"]),
        "near": ("drained", None, None),
        "middle": ("no_workers", None, None),
        "distant": ("unknown", None, None),
    }
    assert answer["table"]["shed"] == 0.0


def test_nothing_is_refused_because_other_regions_are_down(deployment, make_client, photo, store):
    """Twelve workers in small pools serve what a lost region cannot."""
    small = {"ready": 6, "busy": 6}
    deployment.reports(home=small, near=small, middle=DOWN, distant=DOWN)
    for name in ("home", "near"):
        deployment.busy(name, 6)
    with store.session() as session:
        Controller(deployment.settings, store, deployment.redis, "c").cycle(session)
    answers = [calls.submit(make_client(), photo) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3


def test_unknown_values_are_null(make_client):
    answer = make_client().get("/v1/regions").get_json()
    assert {region["state"] for region in answer["data"]} == {"unknown"}
    assert answer["table"]["version"] is None and answer["table"]["mode"] == "local"
    assert answer["data"][0]["ready"] is None and answer["data"][0]["shares"] is None


def test_verbs_are_in_force_at_once_and_audited(deployment, make_client):
    admin = make_client("admin")
    verbs = [
        ("/v1/regions/near/drain", None, "regions.drain", "near", False, True),
        ("/v1/regions/near/undrain", None, "regions.undrain", "near", True, False),
        ("/v1/regions/home/cap", {"workers": 5}, "regions.cap", "home", None, 5),
        ("/v1/regions/home/cap", {"workers": 7}, "regions.cap", "home", 5, 7),
        ("/v1/regions/home/uncap", None, "regions.uncap", "home", 7, None),
        ("/v1/routing-table/pin", None, "regions.pin", "table", False, True),
        ("/v1/routing-table/unpin", None, "regions.unpin", "table", True, False),
    ]
    seen = []
    for path, body, *_ in verbs:
        answer = admin.post(path, json=body)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        assert answer.get_json()["unreached"] == []
        seen.append(in_force(deployment))
    assert seen[0].drained == {"near"} and not seen[1].drained
    assert [seen[n].caps for n in (2, 3, 4)] == [{"home": 5}, {"home": 7}, {}]
    assert seen[5].pinned and not seen[6].pinned
    page = admin.get("/v1/audit?limit=4").get_json()
    rest = admin.get(f"/v1/audit?after={page['next']}").get_json()
    entries = [*page["data"], *rest["data"]][::-1]
    assert page["has_more"] and not rest["has_more"]
    assert [(e["verb"], e["subject"], e["old"], e["new"]) for e in entries] == [
        v[2:] for v in verbs
    ]
    assert {e["key"]["name"] for e in entries} == {"admin"}
    assert all(e["at"].startswith("20") for e in entries)


def test_a_worker_is_not_idle_while_drained(deployment, make_client):
    admin, pool = make_client("admin"), Pool("near", "noop")
    deployment.claims.announce(pool, "gpu-1@host")
    assert admin.post("/v1/workers/gpu-1@host/drain").status_code == 200
    assert not deployment.claims.announce(pool, "gpu-1@host")
    assert deployment.claims.look(pool)[:2] == (0, 0)
    assert admin.post("/v1/workers/gpu-1@host/undrain").status_code == 200
    assert deployment.claims.announce(pool, "gpu-1@host"), (
        "new in the idle set, so it wakes dispatchers"
    )


def test_only_an_admin_key_may_decide_and_read_the_audit(make_client):
    user = make_client("jobs")
    for path in (
        "/v1/regions/near/drain",
        "/v1/regions/near/cap",
        "/v1/routing-table/pin",
        "/v1/workers/x/drain",
    ):
        calls.assert_problem(user.post(path), 403, "insufficient_scope")
    calls.assert_problem(user.get("/v1/audit"), 403, "insufficient_scope")
    assert user.get("/v1/regions").status_code == 200
    assert make_client("admin").get("/v1/regions").status_code == 200


def test_bad_verbs_say_what_is_wrong(make_client):
    admin = make_client("admin")
    calls.assert_problem(admin.post("/v1/regions/nowhere/drain"), 404, "region_not_found")
    calls.assert_problem(admin.post("/v1/workers/nobody/drain"), 404, "worker_not_found")
    calls.assert_problem(admin.post("/v1/workers/nobody/undrain"), 404, "worker_not_found")
    cap = "/v1/regions/home/cap"
    calls.assert_problem(admin.post(cap, json={"workers": -1}), 422, "invalid_field", "/workers")
    calls.assert_problem(admin.post(cap, json={"workers": "many"}), 422, "invalid_field")
    calls.assert_problem(admin.post(cap, data="{"), 400, "invalid_json")
    calls.assert_problem(admin.get("/v1/audit?limit=0"), 422, "invalid_field", "/limit")
    beyond = admin.get(f"/v1/audit?after={2**63}")
    calls.assert_problem(beyond, 422, "invalid_field", "/after")


def test_the_commands_of_an_operator(deployment, server, monkeypatch, capsys):
    """Uses the tests' server, which serves us-east, us-west and eu-west."""
    with deployment.store.begin() as tx:
        admin, user = keys.create(tx, "ops", ("admin",))[1], keys.create(tx, "user")[1]
    monkeypatch.setenv("STILLMOTION_SERVER", server)
    monkeypatch.setenv("STILLMOTION_API_KEY", admin)
    for command, sentence in (
        (["regions", "drain", "us-west"], "us-west is drained."),
        (["regions", "undrain", "us-west"], "us-west is in service."),
        (["regions", "cap", "eu-west", "4"], "eu-west is capped at 4."),
        (["regions", "uncap", "eu-west"], "eu-west has no cap."),
        (["regions", "pin"], "The routing table is pinned."),
        (["regions", "unpin"], "The routing table is not pinned."),
    ):
        assert run(command) == ExitStatus.OK
        assert capsys.readouterr().out.strip() == sentence
    assert run(["audit", "--limit", "6"]) == ExitStatus.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "ops  regions.drain us-west  false -> true" in lines[-1]
    assert run(["regions", "list"]) == ExitStatus.OK
    listed = capsys.readouterr().out
    assert "us-west" in listed and ", mode " in listed
    assert listed.count("no report") == 3
    assert run(["regions", "drain", "us-west"]) == ExitStatus.OK
    assert run(["regions", "list"]) == ExitStatus.OK
    assert "no new jobs" in capsys.readouterr().out
    assert run(["regions", "drain", "nowhere"]) == ExitStatus.REJECTED
    assert run(["workers", "drain", "nobody"]) == ExitStatus.REJECTED
    assert run(["regions", "drain", "us-west", "--key", user]) == ExitStatus.REJECTED
    assert "insufficient_scope" in capsys.readouterr().err


def test_an_admin_key_is_created_on_the_command_line(store, database_url, capsys):
    assert run(["keys", "create", "--name", "ops", "--admin", "--database-url", database_url]) == 0
    with store.autocommit() as conn:
        key = keys.find(conn, capsys.readouterr().out.strip())
    assert set(key.scopes) == {"jobs", "admin"}


# --- admission ------------------------------------------------------------------------------------


def crowded(deployment, waiting, **report):
    """Home has 20 busy workers and a queue; no other region has an idle worker."""
    full = {name: {"busy": 20} for name in NAMES}
    deployment.reports(**full | {"home": {"busy": 20} | report})
    for name in NAMES:
        deployment.busy(name, 20)
    deployment.submit(waiting, profile="motion-small")


def test_a_job_that_would_wait_too_long_is_refused_with_retry_after(deployment, make_client, photo):
    crowded(deployment, waiting=11)  # 12 x 4 s / 20 = 2.4 s, over half a service time
    user = make_client()
    answer = calls.submit(user, photo)
    body = calls.assert_problem(answer, 429, "too_busy")
    assert body["retryable"]
    pause_s = int(answer.headers["Retry-After"])
    assert RETRY_AFTER_LEAST_S <= pause_s <= RETRY_AFTER_MOST_S
    assert calls.rows_in(deployment.store) == 11
    assert traffic.refused(deployment.client, "home") == 1
    # A batch job can wait. It is delayed briefly while its home is hot.
    assert calls.submit(user, photo, priority=2).status_code == 202


def test_a_backlog_is_not_judged_by_an_assumed_service_time(deployment, make_client, photo):
    """Nothing has ended yet; then jobs of 10 ms have, which no report has said so far."""
    crowded(deployment, waiting=1)
    deployment.submit(800, profile="motion-small")
    for name in NAMES:
        unmeasured = replace(report(name, 99, busy=20), measured=False)
        traffic.write_report(deployment.client, unmeasured)
    assert calls.submit(make_client(), photo).status_code == 202, "160 s by an assumption"
    took_s(deployment, 0.01)
    assert calls.submit(make_client(), photo).status_code == 202
    took_s(deployment, 4.0)
    calls.assert_problem(calls.submit(make_client(), photo), 429, "too_busy")


def took_s(deployment, seconds):
    """The only job of the profile that has ended took this long."""
    with deployment.store.begin() as tx:
        tx.exec_driver_sql("DELETE FROM jobs WHERE state = 'succeeded'")
    [job_id] = deployment.submit(1, profile="motion-small", priority=0)
    with deployment.store.begin() as tx:
        [placed] = make.place(tx, "motion-small", "home", "home", ["t"], seen=1)
        make.begin(tx, placed.job_id, placed.fence)
        attempts.finish(tx, placed.job_id, placed.fence, "outputs/a", 1, lease_token=make.LEASE)
        tx.exec_driver_sql(
            "UPDATE jobs SET started_at = finished_at - make_interval(secs => %s)"
            " WHERE state = 'succeeded'",
            (seconds,),
        )
    assert placed.job_id == job_id


def test_a_dry_run_is_refused_like_a_submit_and_does_not_count_as_demand(
    deployment, make_client, photo
):
    def dry_run():
        form = {"image": (io.BytesIO(photo), "a.jpg")}
        return make_client().post("/v1/jobs?dry_run=1", data=form)

    crowded(deployment, waiting=11)
    calls.assert_problem(dry_run(), 429, "too_busy")
    assert traffic.refused(deployment.client, "home") == 0
    deployment.reports(home={"busy": 20})  # the others have idle workers
    answer = dry_run()
    assert (answer.status_code, answer.get_json()["object"]) == (200, "estimate")
    assert calls.rows_in(deployment.store) == 11


def test_bounds_are_settings_and_admission_can_be_switched_off(deployment, make_client, photo):
    crowded(deployment, waiting=11)
    patient = {"interactive_wait_least_s": 3.0}
    assert calls.submit(make_client(**patient), photo).status_code == 202
    crowded(deployment, waiting=40)
    assert calls.submit(make_client(**patient), photo).status_code == 429
    assert calls.submit(make_client(admission=False), photo).status_code == 202


def test_no_job_is_refused_while_a_far_worker_is_free(deployment, make_client, photo):
    crowded(deployment, waiting=30)
    deployment.reports(home={"busy": 20}, near={"busy": 20}, middle={"busy": 20})
    user = make_client()
    assert calls.submit(user, photo).status_code == 202, "distant has ten idle workers"
    calls.assert_problem(calls.submit(user, photo, policy="strict"), 429, "too_busy")


def test_the_lowest_class_is_shed_first_when_all_regions_are_overloaded(
    deployment, make_client, photo
):
    crowded(deployment, waiting=0)
    deployment.publish(table(shed=0.5, overload=True))  # class 2 is half of all demand
    user = make_client()
    calls.assert_problem(calls.submit(user, photo, priority=2), 429, "too_busy")
    assert calls.submit(user, photo, priority=1).status_code == 202


def test_a_small_pool_accepts_jobs_that_it_can_start_before_their_users_give_up(
    deployment, make_client, photo
):
    few = {name: {"ready": 1, "busy": 1} for name in NAMES}
    deployment.reports(**few)
    deployment.busy("home", 1)
    deployment.submit(5, profile="motion-small", policy="strict")
    user = make_client()
    assert calls.submit(user, photo, policy="strict").status_code == 202
    late = calls.submit(user, photo, policy="strict", max_queue_seconds=10)
    calls.assert_problem(late, 429, "too_busy")


def test_jobs_are_accepted_without_workers_or_load_data(deployment, make_client, photo):
    user = make_client()
    assert calls.submit(user, photo).status_code == 202
    deployment.reports(**{name: {"ready": 0, "busy": 0} for name in NAMES})
    user.application.extensions["services"].traffic.refresh()
    assert calls.submit(user, photo).status_code == 202


def test_a_job_that_only_drained_regions_may_take_is_refused(deployment, make_client, photo):
    deployment.reports()
    traffic.write_controls(deployment.client, lambda: Controls(drained=frozenset({"home"})))
    user = make_client()
    deadline = time.monotonic() + 10
    answer = calls.submit(user, photo, policy="strict")
    while answer.status_code == 202 and time.monotonic() < deadline:
        # A new client refuses nobody until it has read the state of the regions.
        answer = calls.submit(user, photo, policy="strict")
    calls.assert_problem(answer, 503, "region_drained")
    assert answer.headers["Retry-After"] == "60"
    assert calls.submit(user, photo).status_code == 202


def test_a_delayed_job_is_placed_when_its_delay_ends(deployment, make_client, photo):
    crowded(deployment, waiting=0)
    user = make_client(execution_delay="all", interactive_wait_least_s=5.0)
    held = []
    deadline = time.monotonic() + 30
    while not any(held) and time.monotonic() < deadline:  # half of them are
        deployment.reports(home={"busy": 20})
        job = calls.submit(user, photo).get_json()
        held.append(make.read(deployment.store, job["id"]).not_before is not None)
    assert any(held)
