"""schemathesis runs every check on every operation of the API's OpenAPI document.

The API must accept what the document allows, refuse everything else, and answer with documented
codes only. Seeds are fixed, so runs are repeatable.
"""

import io
import itertools
from datetime import date, timedelta
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis.engine import events, from_schema
from schemathesis.generation import GenerationMode
from schemathesis.transport.serialization import Binary

from app.store import keys
from tests.support import calls


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(out, "PNG")
    return out.getvalue()


PNG = _png()
SEED = 1

schemathesis.openapi.format("picture-uri", st.just(calls.data_uri(PNG)))
schemathesis.openapi.format(
    "public-https-url", st.integers(0, 10**9).map("https://example.com/hook-{}".format)
)
schemathesis.openapi.media_type("image/png", st.just(PNG))

# The statuses that these checks accept, a few more than by default.
CHECKS = {
    # 410: an earlier request deleted the job.
    "positive_data_acceptance": {
        "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "410", "429"]
    },
    # 410 as above. 413: a size over the limit.
    "negative_data_rejection": {
        "expected-statuses": ["400", "401", "403", "404", "405", "409", "410", "413", "415", "422"]
    },
}


class ProseRules:
    """Adapts generated requests to the rules that JSON Schema cannot express."""

    def __init__(self, client: httpx.Client):
        self._client = client
        self._count = itertools.count()
        upload = client.post("/v1/uploads", json={"size_bytes": len(PNG)}).json()
        httpx.put(upload["url"], content=PNG).raise_for_status()
        self._upload_id = upload["id"]

    def keep(self, case):
        headers = case.headers or {}
        if "Prefer" in headers:
            headers["Prefer"] = "wait=0"  # nothing renders here, so it would wait the full time
        if case.path == "/v1/jobs/{job_id}/events":  # a stream ends with its job
            job_id = quote(str(case.path_parameters["job_id"]), safe="")
            self._client.post(f"/v1/jobs/{job_id}/cancel")
        if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
            return
        if "Idempotency-Key" in headers:
            headers["Idempotency-Key"] = str(next(self._count))  # one key per request
        if case.path == "/v1/usage":
            for name in {"start", "end"} & (case.query or {}).keys():
                case.query[name] = str(date.today() - timedelta(days=name == "start"))
        if isinstance(case.body, dict):
            self._fix_body(case.path, case.body, headers)
        # Otherwise schemathesis validates the changed case and rejects every form with a file.
        case._sync_validated_hashes()

    def _fix_body(self, path, body, headers):
        for name in ("image", "input_reference"):
            if isinstance(body.get(name), bytes | Binary):
                body[name] = PNG  # large enough
        if body.get("upload_id"):
            body["upload_id"] = self._upload_id  # an upload that has received its data
        if body.get("image"):
            body.pop("upload_id", None)  # only one of the two; a generated form always has the file
        if str(body.get("image")).startswith("https:"):
            body["image"] = calls.data_uri(PNG)  # no outgoing requests in this test
        if body.get("allowed_regions"):
            body["allowed_regions"] = [body.get("region") or "us-east"]  # must include home
        if body.get("webhook_events"):
            body["webhook_url"] = "https://example.com/"
        body.pop("negative_prompt", None)  # the default model has no use for it
        if "Cancel-After" in headers:
            headers["Cancel-After"] = "60s"  # at most a week, and the only deadline
            body.pop("deadline_seconds", None)
        if path == "/v1/videos":
            for name, value in {"seconds": "2", "size": "512x512"}.items():
                if body.get(name):
                    body[name] = value  # within the model's limits


@pytest.fixture
def document(server):
    return httpx.get(f"{server}/v1/openapi.json").json()


@pytest.fixture
def explore(server, store, document):
    """A function that runs schemathesis' phases and returns their findings."""
    with store.begin() as tx:
        plain = keys.create(tx, "contract", ("jobs", "admin"), best_priority=0)[1]
    headers = {"Authorization": f"Bearer {plain}"}

    def run(*phases, max_examples):
        every = ("examples", "coverage", "fuzzing", "stateful")
        config = schemathesis.Config.from_dict(
            {
                "seed": SEED,
                "headers": headers,
                "checks": CHECKS,
                "continue-on-failure": True,
                "request-timeout": 60,
                "generation": {"max-examples": max_examples, "database": "none"},
                "phases": {name: {"enabled": name in phases} for name in every},
            }
        )
        # from_url would leave out the operation that serves the document.
        schema = schemathesis.openapi.from_dict(document, config=config)
        schema.config.update(base_url=server)
        tested, found = set(), []
        for event in from_schema(schema).execute():
            if isinstance(event, events.FatalError):
                raise event.exception
            if isinstance(event, events.NonFatalError):
                found.append(f"{event.label}: {event.value!r}")
            if isinstance(event, events.ScenarioFinished):
                recorder = event.recorder
                tested |= {case.value.operation.label for case in recorder.cases.values()}
                found += [
                    f"{recorder.cases[case].value.as_curl_command()}\n{check.failure_info.failure}"
                    for case, checks in recorder.checks.items()
                    for check in checks
                    if check.failure_info is not None
                ]
        return tested, found

    with httpx.Client(base_url=server, headers=headers, timeout=60) as client:
        words = ProseRules(client)

        @schemathesis.hook
        def before_call(context, case, kwargs):
            words.keep(case)

        yield run
        schemathesis.hooks.unregister(before_call)


def operations(document) -> set[str]:
    return {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }


def test_every_operation_conforms_to_the_document(explore, document):
    tested, found = explore("examples", "coverage", "fuzzing", max_examples=5)
    assert not found, "\n\n".join(found)
    assert tested == operations(document)


def test_linked_operations_conform_to_the_document_in_sequence(explore):
    tested, found = explore("stateful", max_examples=30)
    assert not found, "\n\n".join(found)
    # The links it follows depend on the ids it gets.
    assert "POST /v1/jobs" in tested and any("{job_id}" in label for label in tested)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_many_more_requests_find_no_violations(explore, document):
    tested, found = explore("examples", "coverage", "fuzzing", "stateful", max_examples=100)
    assert not found, "\n\n".join(found)
    assert tested == operations(document)
