"""Every error code of the API, with its HTTP status. The OpenAPI document shows this list.

Codes are stable, because clients branch on them: add codes, never rename one.
"""

from app.pictures.refusals import REFUSALS

# code -> (HTTP status, when)
CODES: dict[str, tuple[int, str]] = {
    # The caller.
    "missing_api_key": (401, "The `Authorization: Bearer sm_...` header is missing."),
    "invalid_api_key": (401, "The API key is unknown or revoked."),
    "invalid_session": (401, "The browser's session has ended; sign in again."),
    "cross_site_request": (403, "A session works from this service's own pages only."),
    "too_many_attempts": (429, "Too many sign-ins from this address; see Retry-After."),
    "insufficient_scope": (403, "The API key may not do this."),
    "rate_limited": (429, "The key submits more per minute than it may; see Retry-After."),
    "upload_limit_reached": (429, "The key uploads more per day than it may; see Retry-After."),
    # The request.
    "bad_request": (400, "The request cannot be read as HTTP."),
    "body_too_slow": (408, "The body arrived too slowly."),
    "invalid_json": (400, "The body is not JSON."),
    "invalid_form": (400, "The body is not a form: multipart/form-data with a name for each part."),
    "invalid_idempotency_key": (400, "Idempotency-Key must be 1 to 255 visible ASCII characters."),
    "invalid_last_event_id": (400, "Last-Event-ID is not the id of an event of this job."),
    "upload_size_mismatch": (400, "The upload differs in size from what its URL was signed for."),
    "unknown_field": (422, "Unknown field; see `errors[].pointer`."),
    "missing_field": (422, "A required field is missing."),
    "invalid_field": (422, "A field has an invalid value."),
    "prompt_too_long": (422, "The prompt is longer than 1000 characters."),
    "invalid_cancel_after": (422, "Cancel-After is not a duration, or contradicts the body."),
    "priority_not_allowed": (
        422,
        "The key may not ask for this priority; see the detail.",
    ),
    "unknown_region": (422, "No such region."),
    "unknown_model": (422, "No such model."),
    "idempotency_key_reused": (422, "The Idempotency-Key was used with another request."),
    "content_rejected": (422, "The content check rejected the prompt, picture or clip."),
    # Pictures and URLs.
    **{code: (status, detail) for code, (status, detail) in REFUSALS.items()},
    "upload_not_found": (422, "Nothing was uploaded under this id, or the upload has expired."),
    "url_not_allowed": (
        422,
        "The URL must be https and lead to the public internet; OUTBOUND_ALLOW has exceptions.",
    ),
    "url_unreachable": (422, "The URL's server does not respond."),
    "url_timeout": (422, "The URL's server took too long."),
    "url_redirects": (422, "The URL redirects; send the final address instead."),
    "url_bad_status": (422, "The URL's server responded with an error."),
    "url_too_large": (422, "The file at the URL is too large."),
    # The resource.
    "not_found": (404, "Nothing exists at this path."),
    "method_not_allowed": (405, "This path does not support the method; see Allow."),
    "body_too_large": (413, "The body is too large for this path."),
    "unsupported_media_type": (415, "Send multipart/form-data or application/json."),
    "range_not_satisfiable": (416, "The range lies beyond the end of the object."),
    "job_not_found": (404, "No such job, or it belongs to another key."),
    "job_deleted": (410, "The job was deleted, or its retention time has passed."),
    "job_already_ended": (409, "The job has ended and cannot be canceled."),
    "job_not_finished": (409, "The job has no video yet."),
    "job_has_no_video": (409, "The job has ended without a video."),
    "webhook_not_found": (404, "No such webhook, or it belongs to another key."),
    "webhook_exists": (409, "The key already has a webhook for this URL."),
    "webhook_disabled": (409, "The webhook is disabled; enable it first with PATCH."),
    "too_many_webhooks": (409, "The key has reached its maximum number of webhooks."),
    "test_pending": (409, "Too many tests of this webhook are under way."),
    "rotation_under_way": (409, "The previous secret still signs."),
    "delivery_not_found": (404, "No such delivery, or it belongs to another key."),
    "delivery_under_way": (409, "The delivery is being attempted right now."),
    "region_not_found": (404, "No such region."),
    "worker_not_found": (404, "No such worker, ready or drained."),
    "object_missing": (404, "The object no longer exists."),
    "bad_signature": (403, "The URL was not signed by this service."),
    "url_expired": (403, "The URL has expired; ask for a new one."),
    # The service. The same request may succeed later.
    "too_busy": (429, "A job would wait too long; see Retry-After."),
    "too_many_submits": (503, "More jobs are being submitted right now than can be taken."),
    "region_drained": (503, "Every region allowed for the job is drained."),
    "internal_error": (
        500,
        "Internal error; `instance` identifies the request in the server's logs.",
    ),
    "temporarily_unavailable": (503, "Part of the service does not respond."),
    "database_unavailable": (503, "The database does not respond."),
    "storage_unavailable": (503, "Object storage does not respond."),
    "pictures_busy": (503, "Too many pictures are being decoded right now."),
    "pictures_unavailable": (503, "Pictures cannot be decoded right now."),
    "safety_unavailable": (503, "Content cannot be checked right now."),
    "too_many_streams": (503, "There is no room for another stream of this key."),
    "too_many_uploads": (503, "Too many bodies or pictures of this key are still arriving."),
    # Sent before a request can be read, so on any path.
    "head_too_slow": (408, "The request's head arrived too slowly."),
    "uri_too_long": (414, "The request's target is too long."),
    "expectation_failed": (417, "Only `Expect: 100-continue` is known."),
    "headers_too_large": (431, "The request's headers are too large."),
    "transfer_coding_unknown": (501, "The only transfer coding is `chunked`."),
}
