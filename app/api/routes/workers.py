"""GPU workers as operators see them: admin keys only, because it shows hosts and logs."""

from datetime import UTC, datetime

import redis
from flask import Blueprint, request

from app.api.models.query_string import parse_query
from app.api.models.worker import WorkerList, WorkerSetup, WorkersQuery
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import get_services
from app.api.request import auth
from app.broker import setups
from app.broker.setups import Setup
from app.domain.errors import BadRequest

bp = Blueprint("workers", __name__, url_prefix="/v1/workers")
bp.before_request(auth.require_admin)


@bp.get("")
@describe(
    {200: ResponseSpec("The workers.", WorkerList)},
    scope="admin",
    query=WorkersQuery,
    codes=("region_not_found",),
)
def list_workers() -> Result:
    """List GPU workers with the phase of their set-up and its last log lines.

    By region, then by name. Workers appear when they start to load, long before they can take jobs;
    one whose set-up failed stays for ten minutes.
    """
    query = parse_query(WorkersQuery, request.query_string)
    services = get_services()
    if query.region is not None and query.region not in services.topology:
        raise BadRequest("region_not_found", "No such region.", status=404)
    shown: list[WorkerSetup] = []
    unreached, has_more = [], False
    for region in services.topology.names if query.region is None else [query.region]:
        try:
            found, more = setups.read(services.redis.of(region), region, query.limit)
        except redis.RedisError:
            unreached.append(region)
            continue
        shown += [_shown(region, each) for each in found]
        has_more = has_more or more
    return WorkerList(object="list", data=shown, has_more=has_more, unreached=unreached)


def _shown(region: str, setup: Setup) -> WorkerSetup:
    return WorkerSetup(
        id=setup.worker,
        object="worker",
        region=region,
        model=setup.profile,
        phase=setup.phase,
        since=datetime.fromtimestamp(setup.since, UTC),
        log=list(setup.log),
    )
