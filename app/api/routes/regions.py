"""The regions' status, and the operators' decisions about them: admin keys only, and audited."""

import redis
import structlog
from flask import Blueprint, g, request

from app.api.models.audit import Audit, AuditEntry, AuditQuery, KeyName
from app.api.models.base import EmptyBody, parse_json
from app.api.models.query_string import parse_query
from app.api.models.region import (
    Cap,
    Controls,
    RegionList,
    RegionState,
    RegionStatus,
    RoutingTable,
)
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import Services, get_services
from app.api.request import auth
from app.api.request.json_body import read_body
from app.broker.claims import Claims
from app.broker.connections import TRAFFIC_CHANGED, wake
from app.domain.errors import BadRequest, DatabaseUnavailable
from app.domain.routing.load import Report
from app.domain.routing.table import Mode
from app.domain.routing.topology import Pool
from app.store.traffic import controls
from app.store.traffic.controls import Setting, Value
from app.traffic import Snapshot

log = structlog.get_logger(__name__)

TABLE = "table"  # the subject of pin and unpin
MAX_WORKER_NAME = 255

DECIDED = {200: ResponseSpec("The decisions now in force.", Controls)}

bp = Blueprint("regions", __name__, url_prefix="/v1")


@bp.before_request
def _authorise() -> None:
    if request.endpoint == "regions.list_regions":
        auth.require_key()
    else:
        auth.require_admin()
    if request.method == "POST" and request.endpoint != "regions.cap_region":
        read_body(EmptyBody)


@bp.get("/regions")
@describe({200: ResponseSpec("The regions.", RegionList)}, scope="any")
def list_regions() -> Result:
    """Show every region's workers, queue, load and routing, and the table that routes.

    Any key may ask. Load and ceiling are parts of a region's capacity, times are in seconds; null:
    not known.
    """
    services = get_services()
    now = services.clock()
    snapshot = services.traffic.current()
    table = snapshot.table
    age_s = snapshot.table_age_s(now)
    return RegionList(
        object="list",
        table=RoutingTable(
            version=None if table is None else table.version,
            age_s=None if age_s is None else round(age_s, 1),
            mode=snapshot.mode(now).value,
            pinned=snapshot.controls.pinned,
            overload=table is not None and table.overload,
            # Admission sheds by a fresh table alone.
            shed=table.shed if table is not None and snapshot.mode(now) is Mode.NORMAL else 0.0,
            gap_points=None if table is None else table.gap_points,
        ),
        data=[_region(services, snapshot, name, now) for name in services.topology.names],
    )


def _region(services: Services, snapshot: Snapshot, name: str, now: float) -> RegionStatus:
    topology, table, decided = services.topology, snapshot.table, snapshot.controls
    found = snapshot.known(now).get(name)
    report = None if found is None else found.report
    state = _state(report, drained=name in decided.drained)
    planned = table is not None and state is RegionState.SERVING and table.has_capacity(name)
    return RegionStatus(
        id=name,
        object="region",
        state=state,
        default=name == services.settings.region,
        rtt_ms=dict(topology[name].rtt_ms),
        ring={
            other: topology.ring(name, other).name.lower()
            for other in topology.by_round_trip(name)[1:]
        },
        ready=None if report is None else report.ready,
        busy=None if report is None else report.busy,
        waiting=None if report is None else report.waiting,
        service_s=None if report is None else report.service_s,
        demand=None if report is None else report.demand,
        report_age_s=None if report is None else round(max(0.0, now - report.sent_at), 1),
        # When all regions have too much, or the table is pinned, ceilings may be above 1.
        ceiling=min(1.0, table.ceilings[name]) if table is not None and planned else None,
        load=table.load[name] if table is not None and planned else None,
        shares=None if table is None else dict(table.shares[name]),
        drained=name in decided.drained,
        cap=decided.caps.get(name),
    )


def _state(report: Report | None, *, drained: bool) -> RegionState:
    if drained:
        return RegionState.DRAINED
    if report is None:
        return RegionState.UNKNOWN
    return RegionState.SERVING if report.ready else RegionState.NO_WORKERS


@bp.post("/regions/<region>/drain")
@describe(DECIDED, scope="admin", body=EmptyBody, may_be_empty=True, codes=("region_not_found",))
def drain_region(region: str) -> Result:
    """Give a region no new work; jobs under way are finished."""
    return _decide("regions.drain", "drained", _known_region(region), True)


@bp.post("/regions/<region>/undrain")
@describe(DECIDED, scope="admin", body=EmptyBody, may_be_empty=True, codes=("region_not_found",))
def undrain_region(region: str) -> Result:
    """Take a region back into service."""
    return _decide("regions.undrain", "drained", _known_region(region), False)


@bp.post("/regions/<region>/cap")
@describe(DECIDED, scope="admin", body=Cap, codes=("region_not_found",))
def cap_region(region: str) -> Result:
    """Limit how many workers of a region may be busy at once."""
    name = _known_region(region)
    cap = parse_json(Cap, request.get_data(cache=False))
    return _decide("regions.cap", "cap", name, cap.workers)


@bp.post("/regions/<region>/uncap")
@describe(DECIDED, scope="admin", body=EmptyBody, may_be_empty=True, codes=("region_not_found",))
def uncap_region(region: str) -> Result:
    """Remove a region's cap."""
    return _decide("regions.uncap", "cap", _known_region(region), None)


@bp.post("/routing-table/pin")
@describe(DECIDED, scope="admin", body=EmptyBody, may_be_empty=True)
def pin_table() -> Result:
    """Freeze the routing shares. Regions that are down or drained still get nothing."""
    return _decide("regions.pin", "pinned", TABLE, True)


@bp.post("/routing-table/unpin")
@describe(DECIDED, scope="admin", body=EmptyBody, may_be_empty=True)
def unpin_table() -> Result:
    """Let the controller route again."""
    return _decide("regions.unpin", "pinned", TABLE, False)


@bp.post("/workers/<worker>/drain")
@describe(DECIDED, scope="admin", body=EmptyBody, may_be_empty=True, codes=("worker_not_found",))
def drain_worker(worker: str) -> Result:
    """Give one GPU worker no new work; its job is finished. A restarted worker counts as new."""
    if len(worker) > MAX_WORKER_NAME or not _is_ready(worker):
        raise BadRequest("worker_not_found", "No such ready worker.", status=404)
    return _decide("workers.drain", "drained_worker", worker, True)


@bp.post("/workers/<worker>/undrain")
@describe(DECIDED, scope="admin", body=EmptyBody, may_be_empty=True, codes=("worker_not_found",))
def undrain_worker(worker: str) -> Result:
    """Give a worker work again."""
    services = get_services()
    with services.store.autocommit() as conn:
        drained = controls.read(conn).drained_workers
    if worker not in drained:
        raise BadRequest("worker_not_found", "No drained worker has this name.", status=404)
    return _decide("workers.undrain", "drained_worker", worker, False)


@bp.get("/audit")
@describe({200: ResponseSpec("A page of the audit.", Audit)}, scope="admin", query=AuditQuery)
def list_audit() -> Result:
    """List operators' actions, newest first; send `next` as `after` to get the following page."""
    query = parse_query(AuditQuery, request.query_string)
    with get_services().store.autocommit() as conn:
        rows = controls.audit(conn, limit=query.limit + 1, after=query.after)
    shown, more = rows[: query.limit], len(rows) > query.limit
    return Audit(
        object="list",
        data=[
            AuditEntry(
                id=row.id,
                at=row.at.isoformat(),
                key=KeyName(id=row.key_id, name=row.key_name),
                verb=row.verb,
                subject=row.subject,
                old=row.old,
                new=row.new,
            )
            for row in shown
        ],
        has_more=more,
        next=shown[-1].id if more else None,
    )


def _known_region(name: str) -> str:
    if name not in get_services().topology:
        raise BadRequest("region_not_found", "No such region.", status=404)
    return name


def _is_ready(worker: str) -> bool:
    """Whether any region knows the worker. A region that does not respond might, so it counts."""
    services = get_services()
    for region in services.topology.names:
        claims = Claims(services.redis.of(region))
        try:
            for profile in services.settings.served_profiles:
                if claims.is_ready(Pool(region, profile), worker):
                    return True
        except redis.RedisError:
            return True
    return False


def _decide(verb: str, setting: Setting, subject: str, value: Value) -> Result:
    """Put a decision in force: first the row and its audit, then every region's Redis.

    The controller passes it on to a Redis that does not respond; `unreached` names such regions.
    """
    services = get_services()
    with services.store.begin() as tx:
        decided = controls.change(tx, g.api_key, verb, setting, subject, value)
    log.warning("operator_decision", verb=verb, subject=subject, value=value, key=g.api_key.name)
    unreached = []
    for region in {services.redis.url(name): name for name in services.topology.names}.values():
        try:
            services.traffic.copy_controls(region)
            wake(services.redis.of(region), TRAFFIC_CHANGED)
        except (redis.RedisError, DatabaseUnavailable):
            unreached.append(region)
    services.traffic.refresh()
    return Controls(
        object="controls",
        drained=sorted(decided.drained),
        caps=dict(decided.caps),
        drained_workers=sorted(decided.drained_workers),
        pinned=decided.pinned,
        unreached=unreached,
    )
