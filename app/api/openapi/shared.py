"""What operations of the OpenAPI document share: headers, path parameters, security, words."""

from typing import Any

JsonSchema = dict[str, Any]

VERSION = "1"

ABOUT = """\
A picture, and a prompt if there is one, become a short MP4. Submit a job, then poll it, follow its
events, or be told by a webhook.

Send an API key as `Authorization: Bearer sm_...`. Times are RFC 3339 in UTC, durations seconds.

**Errors** are `application/problem+json` (RFC 9457) with a stable `code`, the list of which is in
the schema `Code`; `errors[].pointer` is a JSON pointer (RFC 6901) to what is wrong, and `retryable`
says whether the same request may succeed later. New codes and new fields of answers may come;
unknown fields of requests are refused. Every address answers 405 to methods that it does not take.

**Repeating a submit** is safe with an `Idempotency-Key`: the same key and request make one job.
"""

GROUPS = {
    "Jobs": "A job is one request for one clip.",
    "Uploads": "Pictures sent ahead of their jobs, straight to object storage.",
    "Webhooks": "Addresses that hear of the ends of jobs; Standard Webhooks 1.0.",
    "Videos": "The same jobs for OpenAI's clients.",
    "Service": "What this deployment offers, and what was used of it.",
    "Operations": "What operators see and decide; an admin key.",
    "Pages": "How the service's own pages sign in.",
    "Probes": "For load balancers and Prometheus.",
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
    "key": {"type": "string", "minLength": 1, "description": "Slashes are part of it."},
}

# Of requests.
HEADERS: dict[str, JsonSchema] = {
    "Idempotency-Key": {
        "description": "The same key with the same request makes one job, whatever happens on the"
        " way; with another request it is 422, after the job's deletion 410. Kept for 24 hours.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "example": "4c0f7b1e-order-17",
    },
    "Prefer": {
        "description": "`wait=n` (RFC 7240): answer when the job has ended, or after n seconds, at"
        " most 60. Anything else is ignored.",
        "schema": {"type": "string"},
        "example": "wait=10",
    },
    "Cancel-After": {
        "description": "Stop the job if it has not ended by then: seconds, or with `s`, `m`, `h`;"
        " at most a week. The same as `deadline_seconds`, which may not say otherwise.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,7}(s|m|h)?$"},
        "example": "5m",
    },
    "Last-Event-ID": {
        "description": "The `id` of the last event that was seen; the stream goes on after it.",
        "schema": {"type": "string", "pattern": r"^([0-9]{1,9}[.][0-4][.][0-9]{1,9})?$"},
        "example": "1.2.3",
    },
    "Range": {
        "description": "One range of bytes (RFC 9110); others are ignored.",
        "schema": {"type": "string"},
        "example": "bytes=0-1023",
    },
}

# Of answers.
ANSWER_HEADERS: dict[str, JsonSchema] = {
    "X-Request-Id": {
        "description": "Names the request in our logs.",
        "schema": {"type": "string", "format": "uuid"},
        "required": True,
    },
    "Location": {"description": "Where it is shown.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds until it is worth asking again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimit": {
        "description": "`r` submits are left, and `t` seconds until there are as many as may be"
        " (draft-ietf-httpapi-ratelimit-headers); only of keys with a limit.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "`q` submits in `w` seconds; only of keys with a limit.",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "`true`: an earlier request with this key made the job.",
        "schema": {"type": "string", "const": "true"},
    },
    "Preference-Applied": {"description": "The wait.", "schema": {"type": "string"}},
    "openai-poll-after-ms": {
        "description": "Milliseconds until it is worth asking again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {"schema": {"type": "string"}, "required": True},
    "Set-Cookie": {"description": "The session.", "schema": {"type": "string"}},
    "ETag": {"schema": {"type": "string"}},
    "Content-Range": {"schema": {"type": "string"}},
}

SUBMIT_HEADERS = ("RateLimit", "RateLimit-Policy")

# Of Standard Webhooks, in what a receiver gets.
WEBHOOK_HEADERS: dict[str, JsonSchema] = {
    "webhook-id": {
        "description": "The message; the same over all its tries, so repeats can be told.",
        "schema": {"type": "string"},
    },
    "webhook-timestamp": {
        "description": "Unix seconds of this try; refuse what is older than five minutes.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "webhook-signature": {
        "description": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`; several, with"
        " blanks between, while a secret is being rotated.",
        "schema": {"type": "string"},
    },
}
