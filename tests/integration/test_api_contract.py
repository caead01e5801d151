"""schemathesis holds the running API to its OpenAPI document: every check, every operation.

What the document allows is accepted, what it does not is refused, and every answer is one that it
tells of. A few rules cannot be said in JSON Schema; `follow_the_words` keeps valid requests to them.
"""

import base64
import io
import itertools
from datetime import date, timedelta
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.generation import GenerationMode

from app.store import keys
from tests import calls


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(out, "PNG")
    return out.getvalue()


PNG = picture()
COUNT = itertools.count()
URI = calls.data_uri(PNG)

schemathesis.openapi.format("picture-uri", st.just(URI))
schemathesis.openapi.format(
    "public-https-url", st.integers(0, 10**9).map("https://example.com/hook-{}".format)
)
schemathesis.openapi.media_type("image/png", st.just(PNG))


@schemathesis.hook
def before_call(context, case, kwargs):
    """What the document says in words alone."""
    headers = case.headers or {}
    if "Prefer" in headers:
        headers["Prefer"] = "wait=0"  # nobody renders here, so it would wait to the end
    if case.path == "/v1/jobs/{job_id}/events":  # for the same reason; a stream ends with its job
        job_id = quote(str(case.path_parameters["job_id"]), safe="")
        base = case.operation.schema.config.base_url or case.operation.schema.get_base_url()
        httpx.post(f"{base}/v1/jobs/{job_id}/cancel", headers=case.operation.schema.config.headers)
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    query, body = case.query or {}, case.body
    if "Idempotency-Key" in headers:  # one key is for one request
        headers["Idempotency-Key"] = str(next(COUNT))
    if case.path == "/v1/usage":  # at most 92 days, and in order
        for name in {"start", "end"} & query.keys():
            query[name] = str(date.today() - timedelta(days=name == "start"))
    if isinstance(body, dict) and "upload_id" in body:  # nothing was sent there
        body.pop("upload_id")
        body.setdefault("image", URI if case.media_type == "application/json" else PNG)
    if str(body.get("image") if isinstance(body, dict) else "").startswith("https:"):
        body["image"] = URI  # the example's address; nothing is fetched here
    if isinstance(body, dict) and case.path == "/v1/videos":  # how much the model can make
        body.update({"seconds": "2", "size": "512x512"} if {"seconds", "size"} & body.keys() else {})
    if isinstance(body, dict) and case.path == "/v1/jobs":
        if body.get("allowed_regions"):  # home is one of them
            body["allowed_regions"] = [body.get("region") or "us-east"]
        if body.get("webhook_events"):
            body["webhook_url"] = "https://example.com/"
        if "Cancel-After" in headers:  # the same deadline, and one of a week at most
            headers["Cancel-After"] = "60s"
            body.pop("deadline_seconds", None)


