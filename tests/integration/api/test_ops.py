"""The operators' summary, and the pages' headers."""

import json

import pytest
from sqlalchemy import text

from app.store import keys
from app.store.job import attempts, jobs
from app.store.reports import overview
from tests.support import calls, make


@pytest.fixture
def admin(app, store):
    with store.begin() as tx:
        _, plain = keys.create(tx, "on call", ("admin",))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
    return client


def test_only_an_operators_key_sees_the_summary(api, anonymous):
    calls.assert_problem(api.get("/v1/ops/summary"), 403, "insufficient_scope")
    calls.assert_problem(anonymous.get("/v1/ops/summary"), 401, "missing_api_key")


def test_an_idle_deployment_has_a_summary(admin):
    shown = admin.get("/v1/ops/summary").get_json()
    assert shown["jobs"] == {"queued": 0, "starting": 0, "processing": 0}
    assert shown["times"]["queue"] == {"p50_seconds": None, "p99_seconds": None}
    assert shown["waiting"] == shown["failures"] == []
    assert shown["regions"][0] == {"id": "us-east", "idle": 0, "busy": 0, "waiting": 0}
    assert shown["flower_url"] is None


def test_the_summary_shows_where_jobs_are_and_how_long_they_took(admin, store):
    owner = make.owner(store)
    for _ in range(2):
        make.submit(store, owner)
    with store.begin() as tx:
        [placed, ended] = make.place(tx, "noop", "us-east", "us-west", ["t1", "t2"])
        for row in (placed, ended):
            make.begin(tx, row.job_id, row.fence)
    with store.begin() as tx:
        attempts.finish(tx, ended.job_id, ended.fence, "outputs/x.mp4", 1, lease_token=make.LEASE)
        tx.execute(
            text(
                "UPDATE jobs SET created_at = finished_at - interval '5 s',"
                " started_at = finished_at - interval '2 s' WHERE id = :id"
            ),
            {"id": ended.job_id},
        )
        where, lost = "id = :id", make.new_job(owner)
        jobs.add(tx, lost)
        jobs.end(
            tx, jobs.JobState.EXPIRED, where, {"id": lost.id}, outcome="lost", error_code="late"
        )
    waits = make.submit(store, owner, home_region="eu-west", policy="strict", priority=0)

    shown = admin.get("/v1/ops/summary").get_json()
    assert shown["jobs"] == {"queued": 1, "starting": 0, "processing": 1}
    by_name = {region["id"]: region for region in shown["regions"]}
    assert by_name["us-west"]["busy"] == 1 and by_name["eu-west"]["waiting"] == 1
    assert (shown["ended"]["succeeded"], shown["ended"]["expired"]) == (1, 1)
    assert shown["times"]["queue"]["p50_seconds"] == pytest.approx(3.0)
    assert shown["times"]["render"]["p99_seconds"] == pytest.approx(2.0)
    [waiting] = shown["waiting"]
    assert (waiting["id"], waiting["key"], waiting["priority"]) == (str(waits), "test", 0)
    assert waiting["waiting_for"] == "worker"
    assert 0 < waiting["expires_in_seconds"] <= 900
    [failure] = shown["failures"]
    assert failure["error"]["code"] == "late" and failure["state"] == "expired"


def test_the_summary_stays_cheap_with_a_long_queue_and_a_long_history(store):
    owner = make.owner(store)
    first = make.submit(store, owner)
    columns = ", ".join(c.name for c in jobs.jobs.columns if c.name != "id")
    ended = {"state": "'failed'", "finished_at": "now()", "error_code": "'x'"}
    with store.begin() as tx:
        tx.execute(text("SET LOCAL statement_timeout = '60s'"))
        for changes in ({}, ended):
            chosen = ", ".join(changes.get(name, name) for name in columns.split(", "))
            tx.execute(
                text(
                    f"INSERT INTO jobs (id, {columns}) SELECT gen_random_uuid(), {chosen}"
                    " FROM jobs, generate_series(1, 5000) WHERE id = :id"
                ),
                {"id": first},
            )
    with store.autocommit() as conn:
        conn.execute(text("ANALYZE jobs"))

    def read(statement, **values):
        """How many rows of jobs the statement's scans read."""
        with store.autocommit() as conn:
            query = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}")
            return _scanned(conn.execute(query, values).scalar_one()[0]["Plan"])

    assert read(overview._LIVE, most=200) <= 200
    assert read(overview._ENDED, window=3600.0, most=200) <= 200
    assert read(overview._WAITING, most=50) <= 50
    assert read(overview._FAILURES, most=20) <= 20


def _scanned(plan: dict) -> int:
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    below = sum(_scanned(child) for child in plan.get("Plans", []))
    return int(below + own * (plan.get("Relation Name") == "jobs"))


@pytest.mark.parametrize("path", ["/", "/ops"])
def test_a_page_runs_nothing_but_its_own_files(anonymous, settings, path):
    answer = anonymous.get(path)
    assert answer.status_code == 200 and answer.mimetype == "text/html"
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["media-src"] == f"'self' {settings.public_url}"
    page = answer.get_data(as_text=True)
    assert "<style" not in page and " style=" not in page and "javascript:" not in page
    assert "https://" not in page and "http://" not in page


def test_clips_of_a_bucket_may_play(change):
    from app.api.application import create_app

    config = change(
        objects_url="s3://clips", s3_public_endpoint_url="https://media.example", region="us-east"
    )
    app = create_app(config)
    try:
        with pytest.MonkeyPatch.context() as environ:
            environ.setenv("AWS_ACCESS_KEY_ID", "k")
            environ.setenv("AWS_SECRET_ACCESS_KEY", "s")
            answer = app.test_client().get("/")
        assert (
            "media-src 'self' https://media.example;" in answer.headers["Content-Security-Policy"]
        )
    finally:
        app.extensions["services"].close()


def test_files_are_served_and_revalidated(anonymous):
    first = anonymous.get("/static/studio.js")
    assert first.mimetype == "text/javascript" and "no-cache" in first.headers["Cache-Control"]
    again = anonymous.get("/static/studio.js", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    calls.assert_problem(anonymous.get("/static/../app/config.py"), 404, "not_found")
    assert json.loads(anonymous.get("/static/none.js").data)["code"] == "not_found"
