"""The calls about the service itself, and operators' verbs (see wire.py)."""

from datetime import date
from typing import Any

from stillmotion.answers import AuditEntry, Decided, Model, Regions, Usage
from stillmotion.requests import ask, ask_all, body_of, given, pages
from stillmotion.wire import Flow, Items, Request


def usage(*, start: date | None = None, end: date | None = None) -> Flow[Usage]:
    """Jobs, cost units and GPU seconds by day (UTC), both days included; the last 30 if not said.

    Raises Rejected, Unreachable.
    """
    query = {"start": start and start.isoformat(), "end": end and end.isoformat()}
    return (yield from ask(Usage, Request("GET", "/v1/usage", {"params": given(query)})))


def models() -> Flow[list[Model]]:
    """What is served, the default first. Raises Rejected, Unreachable."""
    return (yield from ask_all(Model, "/v1/models"))


def regions() -> Flow[Regions]:
    """Every region as it is now, and the routing table. Raises Rejected, Unreachable."""
    return (yield from ask(Regions, Request("GET", "/v1/regions")))


def decide(path: str, **body: Any) -> Flow[Decided]:
    """Post an operator's verb; doing it twice does no harm. Raises Rejected, Unreachable."""
    return (yield from ask(Decided, Request("POST", path, body_of(**body))))


def audit(*, limit: int | None = None) -> Items[AuditEntry]:
    """Operators' verbs, newest first. Raises Rejected, Unreachable."""
    return pages(AuditEntry, "/v1/audit", {}, limit)
