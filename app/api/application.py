"""The Flask application: its blueprints, and what every request has in common."""

from time import perf_counter
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from app import telemetry
from app.api.openapi import build
from app.api.process.services import Services, services
from app.api.request import errors, rate_limit
from app.api.request.submission import FIELDS_BYTES
from app.api.routes import (
    catalog,
    document,
    events,
    health,
    jobs,
    objects,
    ops,
    regions,
    sessions,
    submit,
    uploads,
    usage,
    videos,
    webhooks,
)
from app.config.settings import Settings
from app.web import pages

log = structlog.get_logger(__name__)

# Between two reads of one upload. gunicorn's threads wait for ever, and eight stalled clients
# would be all of them; against slow ones there is a proxy in front.
BODY_STALL_S = 10.0

SUBMITS = frozenset({"submit.submit_job", "videos.create_video"})
POLLED = frozenset({"jobs.show_job", "videos.show_video"})
SLOW_S = 0.5
QUIET = frozenset({"health.healthz", "health.readyz", "health.metrics", "web.static"})


def create_app(settings: Settings) -> Flask:
    """Build the API. Connects to nothing, so it starts whatever is down.

    Raises ConfigError.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(
        # Of everything but a submit, which sets its own.
        MAX_CONTENT_LENGTH=64 * 1024,
        MAX_FORM_MEMORY_SIZE=FIELDS_BYTES,
        MAX_FORM_PARTS=100,
    )
    if hops := settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)
    app.json.sort_keys = False
    parts = app.extensions["services"] = Services(settings)
    errors.install(app)
    for module in (
        submit,
        jobs,
        videos,
        events,
        uploads,
        usage,
        objects,
        catalog,
        document,
        regions,
        webhooks,
        sessions,
        ops,
        health,
    ):
        app.register_blueprint(module.bp)
    document_of_api = build.Document(app, settings)
    app.extensions["openapi"] = document_of_api
    app.register_blueprint(
        pages(
            lambda: parts.objects.signed_url("outputs/any.mp4", expires_s=60),
            lambda: document_of_api.value,
        )
    )
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_leave)
    return app


def _begin() -> None:
    g.request_id = uuid4()
    g.began = perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=str(g.request_id))
    services().gate.enter()
    g.working = True
    with_body = request.method in ("POST", "PUT", "PATCH")
    if with_body and (sock := request.environ.get("gunicorn.socket")):
        sock.settimeout(BODY_STALL_S)  # gunicorn sets it anew for every request


def _leave(error: BaseException | None) -> None:
    if g.pop("working", False):
        services().gate.leave()


def _end(answer: Response) -> Response:
    took_s = perf_counter() - g.began
    answer.headers["X-Request-Id"] = str(g.request_id)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers.setdefault("Cache-Control", "no-store")
    rate_limit.tell(answer)
    if request.endpoint in SUBMITS:
        telemetry.submits.labels(answer.status_code).inc()
        accepted = answer.status_code < 300 and "Location" in answer.headers
        if accepted and "Preference-Applied" not in answer.headers:
            telemetry.submit_seconds.observe(took_s)
    if request.endpoint not in QUIET:
        # A poll that found its job says nothing that the next one does not say again.
        dull = request.endpoint in POLLED and took_s < SLOW_S and answer.status_code < 400
        note = log.debug if dull else log.info
        # The path alone: a signed URL's query is a secret.
        note(
            "request",
            method=request.method,
            path=request.path,
            status=answer.status_code,
            ms=round(took_s * 1000, 1),
            key_id=str(g.api_key.id) if "api_key" in g else None,
        )
    return answer
