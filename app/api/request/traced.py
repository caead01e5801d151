"""The span of a submit. It continues the client's trace, and the job's row keeps its context."""

from flask import Response, g, request
from opentelemetry import context as current_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from app import tracing


def begin() -> None:
    """Call before the request is read."""
    span = tracing.tracer.start_span(
        "submit",
        tracing.context_of(request.headers.get("traceparent")),
        kind=SpanKind.SERVER,
        attributes={"http.request.method": request.method, "http.route": request.path},
    )
    g.span = span
    g.span_token = current_context.attach(trace.set_span_in_context(span))


def end(response: Response) -> None:
    """Note how it was answered."""
    if "span" in g:
        g.span.set_attribute("http.response.status_code", response.status_code)
        if response.status_code >= 500:
            g.span.set_status(StatusCode.ERROR)


def leave() -> None:
    """Call when the request is over, however it ended."""
    span = g.pop("span", None)
    if span is not None:
        span.end()
        current_context.detach(g.pop("span_token"))
