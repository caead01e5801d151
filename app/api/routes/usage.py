"""What a key has used, by day."""

from datetime import UTC, datetime, time, timedelta

from flask import Blueprint, g, request

from app.api.models.query_string import parse_query
from app.api.models.usage import Usage, UsageEntry, UsageQuery
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import get_services
from app.api.request import auth
from app.store.reports import usage

bp = Blueprint("usage", __name__, url_prefix="/v1/usage")
bp.before_request(auth.require_jobs)


@bp.get("")
@describe({200: ResponseSpec("The report.", Usage)}, query=UsageQuery)
def show_usage() -> Result:
    """Count the caller's jobs by the day (UTC) of their submit, deleted ones included."""
    services = get_services()
    today = services.clock.now().date().isoformat()
    query = parse_query(UsageQuery, request.query_string, lambda given: {"end": today} | given)
    since = datetime.combine(query.first_day, time(), UTC)
    before = datetime.combine(query.end, time(), UTC) + timedelta(days=1)
    with services.store.begin() as tx:
        days = usage.by_day(tx, g.api_key.id, since=since, before=before)
    return Usage(
        object="usage",
        start=query.first_day,
        end=query.end,
        data=[UsageEntry(**day) for day in days],
    )
