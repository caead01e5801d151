"""What a key has used, by day."""

from datetime import UTC, datetime, time, timedelta

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from app.api.models.answers import Usage
from app.api.models.order_schema import UsageQuery
from app.api.models.schemas import parse_strings
from app.api.openapi.operation import Answer, describe
from app.api.process.services import services
from app.api.request import auth
from app.store.reports import usage

bp = Blueprint("usage", __name__, url_prefix="/v1/usage")
bp.before_request(auth.require_jobs)


@bp.get("")
@describe({200: Answer("The report.", Usage)}, query=UsageQuery)
def show_usage() -> ResponseReturnValue:
    """Count the caller's jobs by the day (UTC) of their submit, deleted ones included."""
    query = parse_strings(UsageQuery, request.args.to_dict())
    since = datetime.combine(query.start, time(), UTC)
    before = datetime.combine(query.end, time(), UTC) + timedelta(days=1)
    with services().store.autocommit() as conn:
        days = usage.by_day(conn, g.api_key.id, since=since, before=before)
    return {
        "object": "usage",
        "start": query.start.isoformat(),
        "end": query.end.isoformat(),
        "data": days,
    }
