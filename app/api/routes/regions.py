"""Regions as they are now, and what operators decide about them: an admin key, and an audit."""

from time import time
from typing import Annotated, Any

import redis
import structlog
from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field

from app.api.models.answers import Audit, Decisions, RegionList
from app.api.models.schemas import WHOLE, parse_json, parse_strings
from app.api.openapi.operation import Answer, describe
from app.api.process.services import Services, services
from app.api.request import auth
from app.broker.claims import Claims
from app.broker.connections import TRAFFIC_CHANGED, wake
from app.domain.errors import BadRequest
from app.domain.routing.topology import Pool
from app.store.traffic import controls
from app.store.traffic.controls import Setting, Value
from app.traffic import Snapshot

log = structlog.get_logger(__name__)

TABLE = "table"  # the subject of pin and unpin
MAX_WORKER_NAME = 255
MAX_CAP = 1_000_000
MAX_ID = 2**63 - 1  # what Postgres' bigint holds

DECIDED = {200: Answer("What is in force now.", Decisions)}

bp = Blueprint("regions", __name__, url_prefix="/v1")


@bp.before_request
def _authorise() -> None:
    if request.endpoint == "regions.list_regions":
        auth.require_key()
    else:
        auth.require_admin()


class Cap(BaseModel):
    """How many workers of a region may be busy at a time."""

    model_config = ConfigDict(extra="forbid", strict=True)

    workers: Annotated[int, Field(ge=0, le=MAX_CAP), WHOLE]


class AuditQuery(BaseModel):
    """The query of the audit."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: Annotated[int, Field(ge=1, le=MAX_ID)] | None = None
    """The `next` of the page before."""


@bp.get("/regions")
@describe({200: Answer("The regions.", RegionList)}, scope="any")
def list_regions() -> ResponseReturnValue:
    """Show every region's workers, queue, load and routing, and the table that routes.

    Any key may ask. Load and ceiling are parts of a region's capacity, times are in seconds;
    null: not known.
    """
    parts, now = services(), time()
    snapshot = parts.traffic.current()
    table = snapshot.table
    age_s = snapshot.table_age_s(now)
    return {
        "object": "list",
        "table": {
            "version": None if table is None else table.version,
            "age_s": None if age_s is None else round(age_s, 1),
            "mode": snapshot.mode(now).value,
            "pinned": snapshot.controls.pinned,
            "overload": table is not None and table.overload,
            "shed": 0.0 if table is None else table.shed,
            "gap_points": None if table is None else table.gap_points,
        },
        "data": [_region(parts, snapshot, name, now) for name in parts.topology.names],
    }


def _region(parts: Services, snapshot: Snapshot, name: str, now: float) -> dict[str, Any]:
    topology, table, decided = parts.topology, snapshot.table, snapshot.controls
    found = snapshot.known(now).get(name)
    report = None if found is None else found.report
    return {
        "id": name,
        "object": "region",
        "default": name == parts.settings.region,
        "rtt_ms": dict(topology[name].rtt_ms),
        "ring": {
            other: topology.ring(name, other).name.lower()
            for other in topology.by_round_trip(name)[1:]
        },
        "ready": None if report is None else report.ready,
        "busy": None if report is None else report.busy,
        "waiting": None if report is None else report.waiting,
        "service_s": None if report is None else report.service_s,
        "demand": None if report is None else report.demand,
        "report_age_s": None if report is None else round(max(0.0, now - report.sent_at), 1),
        "ceiling": None if table is None else table.ceilings[name],
        "load": None if table is None else table.load[name],
        "shares": None if table is None else dict(table.shares[name]),
        "drained": name in decided.drained,
        "cap": decided.caps.get(name),
    }


@bp.post("/regions/<region>/drain")
@describe(DECIDED, scope="admin", codes=("region_not_found",))
def drain_region(region: str) -> ResponseReturnValue:
    """Give a region no more work; what its workers do is finished."""
    return _decide("regions.drain", "drained", _known_region(region), True)


@bp.post("/regions/<region>/undrain")
@describe(DECIDED, scope="admin", codes=("region_not_found",))
def undrain_region(region: str) -> ResponseReturnValue:
    """Take a region back into service."""
    return _decide("regions.undrain", "drained", _known_region(region), False)


@bp.post("/regions/<region>/cap")
@describe(DECIDED, scope="admin", body=Cap, codes=("region_not_found",))
def cap_region(region: str) -> ResponseReturnValue:
    """Let at most so many workers of a region be busy at a time."""
    name = _known_region(region)
    cap = parse_json(Cap, request.get_data(cache=False))
    return _decide("regions.cap", "cap", name, cap.workers)


@bp.post("/regions/<region>/uncap")
@describe(DECIDED, scope="admin", codes=("region_not_found",))
def uncap_region(region: str) -> ResponseReturnValue:
    """Let all workers of a region be busy again."""
    return _decide("regions.uncap", "cap", _known_region(region), None)


@bp.post("/routing-table/pin")
@describe(DECIDED, scope="admin")
def pin_table() -> ResponseReturnValue:
    """Keep the shares in force, whatever the load. What is down or drained still gets nothing."""
    return _decide("regions.pin", "pinned", TABLE, True)


@bp.post("/routing-table/unpin")
@describe(DECIDED, scope="admin")
def unpin_table() -> ResponseReturnValue:
    """Let the controller route again."""
    return _decide("regions.unpin", "pinned", TABLE, False)


@bp.post("/workers/<worker>/drain")
@describe(DECIDED, scope="admin", codes=("worker_not_found",))
def drain_worker(worker: str) -> ResponseReturnValue:
    """Give one GPU worker no more work; what it does is finished. Its next start is another one."""
    if len(worker) > MAX_WORKER_NAME or not _is_ready(worker):
        raise BadRequest("worker_not_found", "There is no ready worker of this name.", status=404)
    return _decide("workers.drain", "drained_worker", worker, True)


@bp.post("/workers/<worker>/undrain")
@describe(DECIDED, scope="admin", codes=("worker_not_found",))
def undrain_worker(worker: str) -> ResponseReturnValue:
    """Let a worker have work again."""
    parts = services()
    with parts.store.autocommit() as conn:
        drained = controls.read(conn).drained_workers
    if worker not in drained:
        raise BadRequest("worker_not_found", "No drained worker has this name.", status=404)
    return _decide("workers.undrain", "drained_worker", worker, False)


@bp.get("/audit")
@describe({200: Answer("A page of the audit.", Audit)}, scope="admin", query=AuditQuery)
def list_audit() -> ResponseReturnValue:
    """List operators' verbs, newest first; `next` is the `after` of the following page."""
    query = parse_strings(AuditQuery, request.args.to_dict())
    with services().store.autocommit() as conn:
        rows = controls.audit(conn, limit=query.limit + 1, after=query.after)
    shown, more = rows[: query.limit], len(rows) > query.limit
    return {
        "object": "list",
        "data": [
            {
                "id": row.id,
                "at": row.at.isoformat(),
                "key": {"id": str(row.key_id), "name": row.key_name},
                "verb": row.verb,
                "subject": row.subject,
                "old": row.old,
                "new": row.new,
            }
            for row in shown
        ],
        "has_more": more,
        "next": shown[-1].id if more else None,
    }


def _known_region(name: str) -> str:
    if name not in services().topology:
        raise BadRequest("region_not_found", "There is no region of this name.", status=404)
    return name


def _is_ready(worker: str) -> bool:
    """Whether any region knows the worker. One that does not answer might: then it is believed."""
    parts = services()
    for region in parts.topology.names:
        claims = Claims(parts.redis.of(region))
        try:
            for profile in parts.settings.served_profiles:
                if claims.is_ready(Pool(region, profile), worker):
                    return True
        except redis.RedisError:
            return True
    return False


def _decide(verb: str, setting: Setting, subject: str, value: Value) -> ResponseReturnValue:
    """Put a decision in force: the row and its audit first, then every region's Redis.

    A Redis that does not answer gets it from the controller: `unreached` names its regions.
    """
    parts = services()
    with parts.store.begin() as tx:
        decided = controls.change(tx, g.api_key, verb, setting, subject, value)
    log.warning("operator", verb=verb, subject=subject, value=value, key=g.api_key.name)
    unreached = []
    for region in {parts.redis.url(name): name for name in parts.topology.names}.values():
        try:
            parts.traffic.copy_out(region, None, decided)
            wake(parts.redis.of(region), TRAFFIC_CHANGED)
        except redis.RedisError:
            unreached.append(region)
    parts.traffic.refresh()
    return {
        "object": "controls",
        "drained": sorted(decided.drained),
        "caps": dict(decided.caps),
        "drained_workers": sorted(decided.drained_workers),
        "pinned": decided.pinned,
        "unreached": unreached,
    }
