"""Health checks, metrics, and what the deployment says about itself."""

import re

from app.telemetry import API
from tests.support import calls


def test_health_checks_need_no_key_and_metrics_are_elsewhere(anonymous):
    assert anonymous.get("/healthz").get_json() == {"status": "ok"}
    ready = anonymous.get("/readyz")
    assert ready.status_code == 200
    assert ready.get_json()["parts"] == {"database": "ok", "storage": "ok", "redis": "ok"}
    calls.assert_problem(anonymous.get("/metrics"), 404, "not_found")


def test_metrics_count_submits(api, photo):
    def accepted():
        return API.get_sample_value("stillmotion_submits_total", {"status": "202"}) or 0.0

    before = accepted()
    calls.submit(api, photo)
    assert accepted() == before + 1


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
