"""The Flask application: its blueprints, and what happens around every request."""

from time import perf_counter
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from app import metrics
from app.api.openapi import build
from app.api.process.services import Services, get_services
from app.api.request import body, errors, rate_limit, traced
from app.api.request.own_host import OwnHost
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
    workers,
)
from app.config.settings import Settings
from app.web import pages

log = structlog.get_logger(__name__)

SUBMITS = frozenset({"submit.submit_job", "videos.create_video"})
POLLED = frozenset({"jobs.show_job", "videos.show_video"})
SLOW_S = 0.5
CHECKS = frozenset({"health.healthz", "health.readyz"})
QUIET = CHECKS | {"web.static"}


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
    app.wsgi_app = OwnHost(app.wsgi_app, settings.public_url)  # type: ignore[method-assign]
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
        workers,
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
            settings.public_url,
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
    if request.endpoint in SUBMITS:
        traced.begin()
    if request.endpoint in CHECKS:
        return  # a load balancer must not wait behind the clients
    get_services().gate.enter()
    g.working = True
    body.receive_aside()


def _leave(error: BaseException | None) -> None:
    if g.pop("working", False):
        get_services().gate.leave()
    traced.leave()


def _end(response: Response) -> Response:
    took_s = perf_counter() - g.began
    response.headers["X-Request-Id"] = str(g.request_id)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    rate_limit.add_headers(response)
    traced.end(response)
    _count(response, took_s)
    if request.endpoint in SUBMITS:
        metrics.submits.labels(response.status_code).inc()
        accepted = response.status_code < 300 and "Location" in response.headers
        if accepted and "Preference-Applied" not in response.headers:
            metrics.submit_seconds.observe(took_s)
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


def _count(response: Response, took_s: float) -> None:
    """Count a request. Its route's template: ids and strangers' paths must not become labels."""
    route = "unknown" if request.url_rule is None else request.url_rule.rule
    method = request.method if request.url_rule is not None else "any"
    metrics.requests.labels(route, method, response.status_code).inc()
    if request.url_rule is not None and "Preference-Applied" not in response.headers:
        metrics.request_seconds.labels(route, method).observe(took_s)
