"""The Flask application: its blueprints, and what happens around every request."""

from time import perf_counter
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from app import telemetry
from app.api.openapi import build
from app.api.process.services import Services, get_services
from app.api.request import errors, rate_limit
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

# Between two reads of one upload. gunicorn's threads wait for ever, so eight stalled clients
# would occupy all of them. A proxy in front handles clients that are merely slow.
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
        # For everything except a submit, which sets its own.
        MAX_CONTENT_LENGTH=64 * 1024,
    )
    if hops := settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    services = app.extensions["services"] = Services(settings)
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
            lambda: services.objects.signed_url("outputs/any.mp4", expires_s=60),
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
    get_services().gate.enter()
    g.working = True
    with_body = request.method in ("POST", "PUT", "PATCH")
    if with_body and (sock := request.environ.get("gunicorn.socket")):
        sock.settimeout(BODY_STALL_S)  # gunicorn resets it for every request


def _leave(error: BaseException | None) -> None:
    if g.pop("working", False):
        get_services().gate.leave()


def _end(response: Response) -> Response:
    took_s = perf_counter() - g.began
    response.headers["X-Request-Id"] = str(g.request_id)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    rate_limit.add_headers(response)
    if request.endpoint in SUBMITS:
        telemetry.submits.labels(response.status_code).inc()
        accepted = response.status_code < 300 and "Location" in response.headers
        if accepted and "Preference-Applied" not in response.headers:
            telemetry.submit_seconds.observe(took_s)
    if request.endpoint not in QUIET:
        # A successful poll is routine: the next one says the same again.
        routine = request.endpoint in POLLED and took_s < SLOW_S and response.status_code < 400
        note = log.debug if routine else log.info
        # Only the path: a signed URL's query is a secret.
        note(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            ms=round(took_s * 1000, 1),
            key_id=str(g.api_key.id) if "api_key" in g else None,
        )
    return response
