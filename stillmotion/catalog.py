"""The calls about the service itself, and operators' decisions (see wire.py)."""

from datetime import date
from typing import Any

from stillmotion.models import AuditEntry, Decisions, Model, Regions, Usage, Workers
from stillmotion.requests import fetch, fetch_list, fetch_pages, json_body, without_none
from stillmotion.wire import Flow, Items, Request


def usage(*, start: date | None = None, end: date | None = None) -> Flow[Usage]:
    """Jobs, cost units and GPU seconds per day (UTC), both days included; default: 30 days.

    Raises Rejected, Unreachable.
    """
    query = {"start": start and start.isoformat(), "end": end and end.isoformat()}
    return (yield from fetch(Usage, Request("GET", "/v1/usage", {"params": without_none(query)})))


def models() -> Flow[list[Model]]:
    """The models served, the default first. Raises Rejected, Unreachable."""
    return (yield from fetch_list(Model, "/v1/models"))


def regions() -> Flow[Regions]:
    """The present state of every region, and the routing table. Raises Rejected, Unreachable."""
    return (yield from fetch(Regions, Request("GET", "/v1/regions")))


def workers(*, region: str | None = None) -> Flow[Workers]:
    """GPU workers and their set-up, with an admin key. Raises Rejected, Unreachable."""
    query = without_none({"region": region})
    return (yield from fetch(Workers, Request("GET", "/v1/workers", {"params": query})))


def decide(path: str, **body: Any) -> Flow[Decisions]:
    """Post an operator's decision; repeating one is harmless. Raises Rejected, Unreachable."""
    return (yield from fetch(Decisions, Request("POST", path, json_body(**body))))


def audit(*, limit: int | None = None) -> Items[AuditEntry]:
    """Operators' decisions, newest first. Raises Rejected, Unreachable."""
    return fetch_pages(AuditEntry, "/v1/audit", {}, limit)
