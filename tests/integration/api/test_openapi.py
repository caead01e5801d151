"""The OpenAPI document: valid, complete, and the page that shows it to people."""

import json
import re
from datetime import UTC, datetime
from uuid import uuid4

import jsonschema_rs
import pytest
from flask import template_rendered
from schemathesis.specs.openapi.definitions import OPENAPI_31

from app.api.application import create_app
from app.api.models.problem import PROBLEM
from app.api.openapi.build import Document
from app.api.openapi.codes import CODES
from app.api.openapi.examples import JOB
from app.domain import webhooks
from stillmotion.signatures import TEST_EVENT, WebhookEvent


@pytest.fixture
def document(contract):
    return contract.document


def responses(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                yield f"{method} {path} {status}", answer


def validator(document, schema):
    return jsonschema_rs.Draft202012Validator(
        schema | {"components": document["components"]}, validate_formats=True
    )


def test_it_is_openapi_3_1(document):
    errors = jsonschema_rs.Draft202012Validator(OPENAPI_31).iter_errors(document)
    assert [f"{error.instance_path}: {error.message}" for error in errors] == []


def test_it_lists_every_route_and_an_undescribed_route_is_refused(app, document, settings):
    listed = {(path, method) for path, methods in document["paths"].items() for method in methods}
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if not rule.endpoint.startswith("web.")
    }
    assert listed == routes and len(routes) > 40
    ids = [each["operationId"] for of in document["paths"].values() for each in of.values()]
    assert len(ids) == len(set(ids))

    app.add_url_rule("/v1/secret-door", "door", lambda: "")
    with pytest.raises(TypeError, match="door has no @describe"):
        Document(app, settings)


def test_it_lists_exactly_the_existing_codes_with_their_texts(document):
    listed = document["components"]["schemas"]["Code"]
    assert listed["enum"] == list(CODES)
    assert listed["x-codes"]["rate_limited"]["status"] == 429
    documented = set()
    for where, answer in responses(document):
        media = answer.get("content", {}).get(PROBLEM)
        if media is not None:
            codes = media["schema"]["properties"]["code"]["enum"]
            assert {CODES[code][0] for code in codes} == {int(where[-3:])}, where
            documented |= set(codes)
    # No operation lists 405, which is the router's, or the fallback for 503, or what is refused
    # before there is a request that could be routed.
    unread = {"head_too_slow", "uri_too_long", "headers_too_large"}
    unread |= {"expectation_failed", "transfer_coding_unknown"}
    assert CODES.keys() - documented == {"method_not_allowed", "temporarily_unavailable", *unread}


def test_every_example_matches_its_schema(document):
    checked = 0
    for where, answer in responses(document):
        for media in answer.get("content", {}).values():
            if "example" in media:
                assert validator(document, media["schema"]).is_valid(media["example"]), where
                checked += 1
    for methods in document["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            for media in content.values():
                for name, example in media.get("examples", {}).items():
                    errors = validator(document, media["schema"]).iter_errors(example["value"])
                    assert [error.message for error in errors] == [], name
                    checked += 1
    assert checked > 15


def test_webhooks_are_described_as_they_are_sent(document):
    def schema_of(event):
        operation = document["webhooks"][event]["post"]
        return operation["requestBody"]["content"]["application/json"]["schema"]

    now = datetime.now(UTC)
    for event in WebhookEvent:
        for left_out in ({}, {"attempts", "metadata"}):
            sent = JOB.model_dump(mode="json", exclude=left_out)
            body = json.loads(webhooks.encode(event, now, sent))
            errors = validator(document, schema_of(event)).iter_errors(body)
            assert [error.message for error in errors] == []
    test = json.loads(webhooks.encode_test(now, uuid4()))
    assert validator(document, schema_of(TEST_EVENT)).is_valid(test)


def test_it_lists_what_this_deployment_serves(document, change):
    fields = document["components"]["schemas"]["JsonJobRequest"]["properties"]
    assert fields["region"]["anyOf"][0]["enum"] == ["us-east", "us-west", "eu-west"]
    assert fields["frames"]["anyOf"][0] == {"type": "integer", "minimum": 8, "maximum": 96}
    other = create_app(change(served_profiles=("noop",)))
    try:
        schemas = other.extensions["openapi"].value["components"]["schemas"]
    finally:
        other.extensions["services"].close()
    assert schemas["VideoJson"]["properties"]["model"]["anyOf"][0]["enum"] == ["noop"]


def test_it_is_served_to_everybody_and_revalidated(anonymous):
    first = anonymous.get("/v1/openapi.json")
    assert first.mimetype == "application/json" and first.get_json()["openapi"] == "3.1.0"
    again = anonymous.get("/v1/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_the_reference_page_has_every_operation_and_code_and_loads_nothing_external(
    anonymous, document
):
    answer = anonymous.get("/docs")
    assert answer.status_code == 200 and answer.mimetype == "text/html"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = answer.get_data(as_text=True)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["operationId"] in ids
    assert {f"code-{code}" for code in CODES} <= set(ids)
    assert all(link in ids for link in re.findall(r'href="#([^"]+)"', page)), "a dead link"
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]+)"', page)
    assert loaded and all(address.startswith("/static/") for address in loaded)
    assert "<style" not in page and " style=" not in page and "<script" not in page


def test_the_reference_page_is_rendered_once(app, anonymous):
    """Rendering takes most of a second, and anybody may ask for the page."""
    rendered = []
    with template_rendered.connected_to(
        lambda *_, template, **__: rendered.append(template.name), app
    ):
        pages = {anonymous.get("/docs").get_data() for _ in range(3)}
    assert len(pages) == 1
    assert rendered == ["docs.html"]
