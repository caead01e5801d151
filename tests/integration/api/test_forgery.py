"""Requests that another site makes a signed-in browser send (CSRF)."""

from uuid import uuid4

import pytest

from app.store import keys
from tests.support import hostile

OWN = {"Sec-Fetch-Site": "same-origin"}


def routes(app) -> list[tuple[str, str]]:
    """Every method and path that changes something and takes a session."""
    values = {"job_id": uuid4(), "video_id": uuid4(), "webhook_id": uuid4(), "worker": "gpu-1@host"}
    values |= {"delivery_id": uuid4(), "region": "us-east", "key_id": uuid4()}
    found = []
    for rule in app.url_map.iter_rules():
        # Objects are reached by signed URLs and know no session.
        if rule.endpoint.startswith(("web.", "objects.")):
            continue
        path = rule.rule
        for name in rule.arguments:
            for kind in ("", "uuid:", "path:"):
                path = path.replace(f"<{kind}{name}>", str(values.get(name, uuid4())))
        found += [(method, path) for method in sorted(rule.methods & hostile.CHANGING)]
    return found


@pytest.fixture
def signed_in(app, admin_key):
    client = app.test_client()
    assert client.post("/v1/session", json={"api_key": admin_key}, headers=OWN).status_code == 200
    return client


@pytest.fixture
def admin_key(store):
    with store.begin() as tx:
        return keys.create(tx, "admin", ("jobs", "admin"))[1]


def test_no_change_is_made_for_another_site(app, signed_in):
    tried = 0
    for method, path in routes(app):
        for headers in hostile.FOREIGN:
            answer = signed_in.open(path, method=method, headers=headers)
            assert answer.status_code == 403, (method, path, headers, answer.get_json())
            assert answer.get_json()["code"] == "cross_site_request"
            tried += 1
    assert tried >= hostile.documented("CSRF")
