"""Probes, metrics, and what the deployment says about itself."""

import re

from app.api.routes import health
from tests.support import calls


def test_probes_and_metrics_need_no_key(anonymous):
    assert anonymous.get("/healthz").get_json() == {"status": "ok"}
    ready = anonymous.get("/readyz")
    assert ready.status_code == 200
    assert ready.get_json()["parts"] == {"database": "ok", "storage": "ok", "redis": "ok"}
    assert anonymous.get("/metrics").status_code == 200


def test_metrics_count_live_jobs_and_submits(api, photo, monkeypatch):
    monkeypatch.setattr(health._live_jobs, "_again_at", 0.0)  # another test may just have counted
    for _ in range(2):
        calls.submit(api, photo)
    text = api.get("/metrics").get_data(as_text=True)
    queued = 'stillmotion_live_jobs{profile="motion-small",region="us-east",state="queued"}'
    assert f"{queued} 2.0" in text
    assert 'profile="noop",region="eu-west",state="processing"} 0.0' in text
    submits = re.search(r'stillmotion_submits_total\{status="202"\} (\S+)', text)
    assert float(submits[1]) >= 2, "the process has counted other tests' submits, too"
    calls.submit(api, photo)
    # A second scrape at once does not query the database again.
    assert f"{queued} 2.0" in api.get("/metrics").get_data(as_text=True)


def test_models_come_with_their_limits_and_regions_with_their_round_trips(api):
    models = api.get("/v1/models").get_json()["data"]
    assert [(model["id"], model["default"]) for model in models] == [
        ("motion-small", True),
        ("noop", False),
    ]
    assert models[0]["frames"] == {"min": 8, "max": 96, "default": 48}
    assert models[0]["licence"] == "Apache-2.0"
    regions = {region["id"]: region for region in api.get("/v1/regions").get_json()["data"]}
    assert regions["us-east"]["default"] is True
    assert regions["us-east"]["rtt_ms"] == {"us-west": 60, "eu-west": 80}


def test_the_webhook_secret_is_the_callers_own_and_stays_the_same(api, anonymous, store):
    from app.store import keys

    first = api.get("/v1/webhooks/secret").get_json()["secret"]
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", first)
    assert api.get("/v1/webhooks/secret").get_json()["secret"] == first
    with store.begin() as tx:
        other = {"Authorization": f"Bearer {keys.create(tx, 'other')[1]}"}
    assert anonymous.get("/v1/webhooks/secret", headers=other).get_json()["secret"] != first


def test_endpoints_that_need_a_key_say_so(anonymous):
    for path in ("/v1/models", "/v1/regions", "/v1/webhooks/secret", "/v1/jobs"):
        calls.assert_problem(anonymous.get(path), 401, "missing_api_key")
