"""Traces: one for each job, from the client's request to the webhook.

Between our processes only ids travel, so a job's context (W3C Trace Context) is kept in its row:
`jobs.traceparent`. Each process hangs its spans under it with the API of OpenTelemetry. Without the
SDK they are not recorded; the context is passed on all the same, and log lines name its trace.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from app.config.settings import ConfigError, Settings
from stillmotion import __version__

EXPORT_S = 2.0  # for a collector that does not respond; its spans are lost, and nothing waits
Attributes = Mapping[str, AttributeValue]

tracer = trace.get_tracer("stillmotion")
_propagator = TraceContextTextMapPropagator()
_provider: Any = None  # the SDK's, if it runs


def start(config: Settings, service: str) -> None:
    """Send this process's spans to OTEL_EXPORTER_OTLP_ENDPOINT, if there is one.

    Call it once, after any fork: the exporter has a thread. Other variables of OpenTelemetry, such
    as OTEL_TRACES_SAMPLER, are read by its SDK. Raises ConfigError if that is not installed.
    """
    global _provider
    if not config.otel_exporter_otlp_endpoint:
        return
    check(config)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {
            "service.namespace": "stillmotion",
            "service.name": service,
            "service.version": __version__,
            "stillmotion.region": config.region,
        }
    )
    url = f"{config.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces"
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=EXPORT_S), 2048, 1000)
    )
    trace.set_tracer_provider(_provider)


def check(config: Settings) -> None:
    """Raise ConfigError if spans are to be sent and the SDK is not installed."""
    if not config.otel_exporter_otlp_endpoint:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT: install the extra `tracing` to send spans."
        ) from None


def stop() -> None:
    """Send what is left, within EXPORT_S."""
    if _provider is not None:
        _provider.shutdown()


def context_of(traceparent: str | None) -> Context:
    """The context that a `traceparent` names; an empty one if it names none."""
    carrier = {} if traceparent is None else {"traceparent": traceparent}
    return _propagator.extract(carrier, Context())


def traceparent_of(span: Span) -> str | None:
    """The context of a span. None: it has none, because nobody began a trace."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get("traceparent")


def current() -> str:
    """The context to keep with a new job: that of the current span, or else a new one.

    A new one is not sampled: nobody has asked for this trace. Its id still joins log lines.
    """
    found = traceparent_of(trace.get_current_span())
    return found or f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace that a context belongs to."""
    return None if traceparent is None else traceparent.split("-")[1]


def about(job_id: object, traceparent: str | None, **fields: object) -> dict[str, Any]:
    """The fields that every log line about a job has. `fields`: its region and fence, as known."""
    return {
        "job_id": str(job_id),
        **{name: value for name, value in fields.items() if value is not None},
        **({} if traceparent is None else {"trace_id": trace_id_of(traceparent)}),
    }


@contextmanager
def span(
    name: str,
    traceparent: str | None,
    attributes: Attributes,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[Span]:
    """A span under a job's context, which is current in the block."""
    with tracer.start_as_current_span(
        name, context_of(traceparent), kind=kind, attributes=attributes
    ) as current_span:
        yield current_span


@contextmanager
def part(name: str) -> Iterator[None]:
    """A span under the current one, for a part of its work."""
    with tracer.start_as_current_span(name):
        yield


def note(
    name: str,
    parent: Context,
    attributes: Attributes,
    *,
    seconds: float = 0.0,
    ended_ns: int | None = None,
    failed: bool = False,
) -> None:
    """Record a span that is over. It took `seconds`."""
    end = time_ns() if ended_ns is None else ended_ns
    over = tracer.start_span(
        name, parent, attributes=attributes, start_time=end - int(seconds * 1e9)
    )
    if failed:
        over.set_status(StatusCode.ERROR)
    over.end(end)
