"""What operations of the OpenAPI document share: headers, path parameters, security, texts."""

from typing import Any

JsonSchema = dict[str, Any]

VERSION = "1"

ABOUT = """\
Turns a picture and an optional prompt into a short MP4. Submit a job, then poll it, follow its
events, or let a webhook notify you.

Send an API key as `Authorization: Bearer sm_...`. Times are RFC 3339 in UTC, durations seconds.

**Errors** are `application/problem+json` (RFC 9457) with a stable `code`; the schema `Code` lists
them all. `errors[].pointer` is a JSON pointer (RFC 6901) to the wrong field, and `retryable` says
whether the same request may succeed later. Expect new codes and new response fields; unknown
request fields are refused. Methods that a path does not support get 405.

**Repeating a submit** is safe with an `Idempotency-Key`: the same key and request create one job.
"""

GROUPS = {
    "Jobs": "A job is one request for one clip.",
    "Uploads": "Pictures sent ahead of their jobs, straight to object storage.",
    "Webhooks": "URLs that are notified when jobs end; Standard Webhooks 1.0.",
    "Videos": "The same jobs for OpenAI's clients.",
    "Service": "What this deployment offers, and what you have used.",
    "Operations": "For operators; needs an admin key.",
    "Pages": "Sign-in for the service's own pages.",
    "Probes": "For load balancers.",
}

# By blueprint.
GROUP_OF = {
    "submit": "Jobs",
    "jobs": "Jobs",
    "events": "Jobs",
    "uploads": "Uploads",
    "objects": "Uploads",
    "webhooks": "Webhooks",
    "videos": "Videos",
    "catalog": "Service",
    "usage": "Service",
    "document": "Service",
    "regions": "Operations",
    "workers": "Operations",
    "ops": "Operations",
    "sessions": "Pages",
    "health": "Probes",
}

SECURITY: dict[str, JsonSchema] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, made by `stillmotion keys create`.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "stillmotion",
        "description": "The service's own pages, after `POST /v1/session`; over TLS the cookie is"
        " `__Host-stillmotion`. Other sites' requests are refused.",
    },
}

PATH: dict[str, JsonSchema] = {
    "job_id": {"type": "string", "format": "uuid"},
    "video_id": {"type": "string", "format": "uuid"},
    "webhook_id": {"type": "string", "format": "uuid"},
    "delivery_id": {"type": "string", "format": "uuid"},
    "region": {"type": "string", "x-served": "region"},
    "worker": {"type": "string", "minLength": 1, "maxLength": 255},
    "key": {"type": "string", "minLength": 1, "description": "May contain slashes."},
}

REQUEST_HEADERS: dict[str, JsonSchema] = {
    "Idempotency-Key": {
        "description": "The same key with the same request creates one job, however often it is"
        " sent; with another request it is a 422, after the job's deletion a 410. Kept for 24"
        " hours.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "example": "4c0f7b1e-order-17",
    },
    "Prefer": {
        "description": "`wait=n` (RFC 7240): respond when the job has ended or after n seconds, at"
        " most 60. Anything else is ignored.",
        "schema": {"type": "string"},
        "example": "wait=10",
    },
    "Cancel-After": {
        "description": "Stop the job if it has not ended by then: seconds, or with `s`, `m`, `h`;"
        " at most a week. The same as `deadline_seconds`, which must not contradict it.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,7}(s|m|h)?$"},
        "example": "5m",
    },
    "Last-Event-ID": {
        "description": "The `id` of the last event received; the stream continues after it.",
        "schema": {"type": "string", "pattern": r"^([0-9]{1,9}[.][0-4][.][0-9]{1,9})?$"},
        "example": "1.2.3",
    },
    "Range": {
        "description": "One range of bytes (RFC 9110); others are ignored.",
        "schema": {"type": "string"},
        "example": "bytes=0-1023",
    },
}

RESPONSE_HEADERS: dict[str, JsonSchema] = {
    "X-Request-Id": {
        "description": "Identifies the request in the server's logs.",
        "schema": {"type": "string", "format": "uuid"},
        "required": True,
    },
    "Location": {"description": "Its URL.", "schema": {"type": "string"}},
    "Stillmotion-Notice": {
        "description": "What the client should know of a job that was accepted, such as that no"
        " worker serves its model right now.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before asking again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimit": {
        "description": "`r` submits, or bytes of uploads, are left; the full quota is back in `t`"
        " seconds (draft-ietf-httpapi-ratelimit-headers). Only for keys with a limit.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "`q` submits, or bytes of uploads, per `w` seconds. Only for keys with a"
        " limit.",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "`true`: an earlier request with this key created the job.",
        "schema": {"type": "string", "const": "true"},
    },
    "Preference-Applied": {
        "description": "The wait that was applied.",
        "schema": {"type": "string"},
    },
    "Preference-Refused": {
        "description": "`wait`: there was no room for this request to wait, so it did not; poll.",
        "schema": {"type": "string", "const": "wait"},
    },
    "openai-poll-after-ms": {
        "description": "Milliseconds to wait before asking again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {"schema": {"type": "string"}, "required": True},
    "Set-Cookie": {"description": "The session cookie.", "schema": {"type": "string"}},
    "ETag": {"schema": {"type": "string"}},
    "Content-Range": {"schema": {"type": "string"}},
}

RATE_HEADERS = ("RateLimit", "RateLimit-Policy")

# Sent to webhook receivers, by Standard Webhooks.
WEBHOOK_HEADERS: dict[str, JsonSchema] = {
    "webhook-id": {
        "description": "The message's id; all its tries carry it, so you can drop repeats.",
        "schema": {"type": "string"},
    },
    "webhook-timestamp": {
        "description": "Unix seconds of this try; refuse messages older than five minutes.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "webhook-signature": {
        "description": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`; several,"
        " separated by spaces, while a secret is being rotated.",
        "schema": {"type": "string"},
    },
}
