"""Every code that an error of the API may carry: the one list, which the OpenAPI document shows.

Codes are stable: a client may branch on one. A code is added here, never renamed. `status` is
that of a request refused with it.
"""

from app.pictures.normaliser import REFUSALS

# code -> (HTTP status, when)
CODES: dict[str, tuple[int, str]] = {
    # Who asks.
    "missing_api_key": (401, "There is no `Authorization: Bearer sm_...`."),
    "invalid_api_key": (401, "The API key is unknown or revoked."),
    "invalid_session": (401, "The browser's session has ended; sign in again."),
    "cross_site_request": (403, "A session works from this service's own pages only."),
    "too_many_attempts": (429, "Too many sign-ins from this address; see Retry-After."),
    "insufficient_scope": (403, "The API key may not do this."),
    "rate_limited": (429, "The key submits more per minute than it may; see Retry-After."),
    # What is asked for.
    "bad_request": (400, "The request cannot be read as HTTP."),
    "invalid_json": (400, "The body is no JSON."),
    "invalid_idempotency_key": (400, "Idempotency-Key is not 1 to 255 visible ASCII characters."),
    "invalid_last_event_id": (400, "Last-Event-ID is not an id of these events."),
    "upload_size_mismatch": (400, "The upload has not the size that its URL was made for."),
    "unknown_field": (422, "There is no such field; see `errors[].pointer`."),
    "missing_field": (422, "A field is needed and missing."),
    "invalid_field": (422, "A field has a value that it cannot have."),
    "prompt_too_long": (422, "The prompt is longer than 1000 characters."),
    "invalid_cancel_after": (422, "Cancel-After is no duration, or contradicts the body."),
    "unknown_region": (422, "There is no region of this name."),
    "unknown_model": (422, "There is no model of this name."),
    "idempotency_key_reused": (422, "The Idempotency-Key was used with another request."),
    "content_rejected": (422, "The service's content check rejected prompt, picture or clip."),
    # Pictures and addresses.
    **{code: (status, detail) for code, (status, detail) in REFUSALS.items()},
    "upload_not_found": (422, "Nothing was sent to this upload, or its day is over."),
    "url_not_allowed": (422, "The URL does not lead to the public internet by https."),
    "url_unreachable": (422, "The URL's server does not answer."),
    "url_timeout": (422, "The URL's server took too long."),
    "url_redirects": (422, "The URL redirects; give the address that it leads to."),
    "url_bad_status": (422, "The URL's server answered with an error."),
    "url_too_large": (422, "What the URL serves is too large."),
    # What is asked about.
    "not_found": (404, "There is nothing at this address."),
    "method_not_allowed": (405, "This address does not take this method; see Allow."),
    "body_too_large": (413, "The body is larger than this address takes."),
    "unsupported_media_type": (415, "Send multipart/form-data or application/json."),
    "range_not_satisfiable": (416, "The range lies beyond the end of the object."),
    "job_not_found": (404, "There is no job of this id, or it is another key's."),
    "job_deleted": (410, "The job was deleted, or its retention time is over."),
    "job_already_ended": (409, "The job has ended and cannot be canceled."),
    "job_not_finished": (409, "The job has no video yet."),
    "job_has_no_video": (409, "The job has ended without a video."),
    "webhook_not_found": (404, "There is no webhook of this id, or it is another key's."),
    "webhook_exists": (409, "The key has a webhook of this URL already."),
    "webhook_disabled": (409, "The webhook is disabled; enable it first with PATCH."),
    "too_many_webhooks": (409, "The key has as many webhooks as it may."),
    "test_pending": (409, "As many tests of this webhook as may be are under way."),
    "rotation_under_way": (409, "The secret before this one still signs."),
    "delivery_not_found": (404, "There is no delivery of this id, or it is another key's."),
    "delivery_under_way": (409, "The delivery is being made right now."),
    "region_not_found": (404, "There is no region of this name."),
    "worker_not_found": (404, "There is no worker of this name, ready or drained."),
    "object_missing": (404, "The object no longer exists."),
    "bad_signature": (403, "The URL was not signed by this service."),
    "url_expired": (403, "The URL has expired; ask for a new one."),
    # Our side. The same request may succeed later.
    "too_busy": (429, "A job would wait for too long; see Retry-After."),
    "region_drained": (503, "Every region that may serve the job is drained."),
    "internal_error": (500, "Something broke on our side; `instance` names it in our logs."),
    "temporarily_unavailable": (503, "A part of the service does not answer."),
    "database_unavailable": (503, "The database does not answer."),
    "storage_unavailable": (503, "Object storage does not answer."),
    "pictures_busy": (503, "Too many pictures are being decoded right now."),
    "pictures_unavailable": (503, "Pictures cannot be decoded right now."),
    "safety_unavailable": (503, "Content cannot be checked right now."),
    "too_many_streams": (503, "This server streams to as many clients as it can."),
}
