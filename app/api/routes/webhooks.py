"""Webhook endpoints, their secrets, and what was delivered to them."""

from typing import Any, TypeVar
from uuid import UUID

from flask import Blueprint, g, request, url_for
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from pydantic import BaseModel
from sqlalchemy import Connection, Row, Table
from werkzeug.routing import BaseConverter

from app.api.models.answers import DeliveryPage, NewlyMadeWebhook, WebhookPage
from app.api.models.schemas import parse_json, parse_strings
from app.api.models.webhook_schemas import (
    ChangedWebhook,
    Delivery,
    DeliveryQuery,
    NewWebhook,
    Nothing,
    Rotation,
    Secret,
    Webhook,
    dump_delivery,
    dump_list,
    dump_secret,
    dump_webhook,
)
from app.api.openapi.operation import DELIVERY_CODES, WEBHOOK_CODES, Answer, describe
from app.api.process.services import services
from app.api.request import auth
from app.domain.errors import BadRequest
from app.domain.webhooks import secret_for
from app.outbound import vet_url
from app.store.webhooks import deliveries, endpoints
from app.store.webhooks.endpoints import MAX_ENDPOINTS, MAX_OPEN_TESTS, Disabled


class _WebhookId(BaseConverter):
    """Any id but the names of what lies beside the webhooks, which take other methods."""

    regex = r"(?!(?:secret|deliveries)(?:/|$))[^/]+"


bp = Blueprint("webhooks", __name__, url_prefix="/v1/webhooks")
bp.before_request(auth.require_jobs)

M = TypeVar("M", bound=BaseModel)


@bp.record
def _install(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["webhook"] = _WebhookId


@bp.post("")
@describe(
    {
        201: Answer(
            "The webhook, with its secret.",
            NewlyMadeWebhook,
            headers=("Location",),
            leads_to=(
                "show_webhook",
                "change_webhook",
                "test_webhook",
                "show_secret",
                "rotate_secret",
                "delete_webhook",
            ),
        )
    },
    body=NewWebhook,
    codes=("unsupported_media_type", "url_not_allowed", "webhook_exists", "too_many_webhooks"),
    examples={"ends": {"url": "https://example.com/hook", "events": ["job.succeeded"]}},
)
def create_webhook() -> ResponseReturnValue:
    """Register an address that hears of every job of the caller; shows its secret."""
    parts = services()
    asked = _body(NewWebhook)
    try:
        vet_url(asked.url, parts.allow)
    except BadRequest as error:
        error.pointer = "/url"
        raise
    owner_id = g.api_key.id
    with parts.store.begin() as tx:
        if endpoints.count_locked(tx, owner_id) >= MAX_ENDPOINTS:
            raise BadRequest(
                "too_many_webhooks", f"A key has at most {MAX_ENDPOINTS} webhooks.", status=409
            )
        row = endpoints.add(tx, owner_id, asked.url, asked.events)
    if row is None:
        raise BadRequest(
            "webhook_exists", "There is a webhook of this URL.", status=409, pointer="/url"
        )
    where = url_for("webhooks.show_webhook", webhook_id=str(row.id))
    return dump_webhook(row) | {"secret": _secret(row)}, 201, {"Location": where}


@bp.get("")
@describe({200: Answer("The webhooks.", WebhookPage)})
def list_webhooks() -> ResponseReturnValue:
    """List the caller's webhooks, oldest first: all of them."""
    with services().store.autocommit() as conn:
        rows = endpoints.of_owner(conn, g.api_key.id)
    return dump_list([dump_webhook(row) for row in rows])


@bp.get("/<webhook:webhook_id>")
@describe({200: Answer("The webhook.", Webhook)}, codes=WEBHOOK_CODES)
def show_webhook(webhook_id: str) -> ResponseReturnValue:
    """Show one of the caller's webhooks, without its secret."""
    with services().store.autocommit() as conn:
        return dump_webhook(_own(conn, webhook_id))


@bp.patch("/<webhook:webhook_id>")
@describe(
    {200: Answer("The webhook as it is now.", Webhook)},
    body=ChangedWebhook,
    may_be_empty=True,
    codes=("unsupported_media_type", *WEBHOOK_CODES),
    examples={"off": {"enabled": False}},
)
def change_webhook(webhook_id: str) -> ResponseReturnValue:
    """Change a webhook: choose other events; disable, which gives up what is owed; enable again."""
    asked = _body(ChangedWebhook)
    with services().store.begin() as tx:
        row = _own(tx, webhook_id)
        if asked.events is not None:
            endpoints.choose_events(tx, row.id, asked.events)
        if asked.enabled is True:
            endpoints.enable(tx, row.id)
        elif asked.enabled is False:
            endpoints.disable(tx, row.id, Disabled.OWNER)
        return dump_webhook(_own(tx, webhook_id))


@bp.delete("/<webhook:webhook_id>")
@describe({204: Answer("It is removed.")}, codes=WEBHOOK_CODES)
def delete_webhook(webhook_id: str) -> ResponseReturnValue:
    """Remove a webhook and the record of its deliveries."""
    with services().store.begin() as tx:
        row = _own(tx, webhook_id)
        endpoints.remove(tx, row.id, owner_id=g.api_key.id)
    return "", 204


@bp.post("/<webhook:webhook_id>/test")
@describe(
    {
        202: Answer(
            "The delivery.",
            Delivery,
            headers=("Location",),
            leads_to=("show_delivery", "redeliver"),
        )
    },
    body=Nothing,
    may_be_empty=True,
    codes=("unsupported_media_type", *WEBHOOK_CODES, "webhook_disabled", "test_pending"),
)
def test_webhook(webhook_id: str) -> ResponseReturnValue:
    """Send a test event, once and without retries; the answer is the delivery to look at."""
    _body(Nothing)
    parts = services()
    with parts.store.begin() as tx:
        endpoint = _own(tx, webhook_id)
        if endpoint.disabled_at is not None:
            raise _disabled()
        row = endpoints.add_test(tx, endpoint)
    if row is None:
        raise BadRequest(
            "test_pending", f"{MAX_OPEN_TESTS} tests of this webhook are under way.", status=409
        )
    parts.webhook_due()
    return _delivery_accepted(row)


@bp.get("/secret")
@describe({200: Answer("The secret.", Secret)})
def show_owner_secret() -> ResponseReturnValue:
    """Show the secret that signs what goes to the addresses which jobs name."""
    with services().store.autocommit() as conn:
        row = endpoints.secret_of_owner(conn, g.api_key.id)
    return dump_secret(_secret(row), row)


@bp.post("/secret/rotate")
@describe(
    {200: Answer("The new secret.", Secret)},
    body=Rotation,
    may_be_empty=True,
    codes=("unsupported_media_type", "rotation_under_way"),
)
def rotate_owner_secret() -> ResponseReturnValue:
    """Make a new secret for the addresses which jobs name."""
    asked = _body(Rotation)
    with services().store.begin() as tx:
        row = endpoints.secret_of_owner(tx, g.api_key.id)
        return _rotate(tx, row, endpoints.api_keys, asked)


@bp.get("/<webhook:webhook_id>/secret")
@describe({200: Answer("The secret.", Secret)}, codes=WEBHOOK_CODES)
def show_secret(webhook_id: str) -> ResponseReturnValue:
    """Show a webhook's secret."""
    with services().store.autocommit() as conn:
        row = _own(conn, webhook_id)
    return dump_secret(_secret(row), row)


@bp.post("/<webhook:webhook_id>/secret/rotate")
@describe(
    {200: Answer("The new secret.", Secret)},
    body=Rotation,
    may_be_empty=True,
    codes=("unsupported_media_type", *WEBHOOK_CODES, "rotation_under_way"),
)
def rotate_secret(webhook_id: str) -> ResponseReturnValue:
    """Make a new secret for a webhook; both sign until `previous_secret_until`."""
    asked = _body(Rotation)
    with services().store.begin() as tx:
        return _rotate(tx, _own(tx, webhook_id), endpoints.endpoints, asked)


@bp.get("/deliveries")
@describe({200: Answer("A page of deliveries.", DeliveryPage)}, query=DeliveryQuery)
def list_deliveries() -> ResponseReturnValue:
    """List the caller's deliveries, newest first."""
    query = parse_strings(DeliveryQuery, request.args.to_dict())
    with services().store.autocommit() as conn:
        rows = deliveries.page(
            conn,
            g.api_key.id,
            limit=query.limit + 1,  # one more tells whether there is a next page
            after=query.after,
            state=query.state,
            event=query.event,
            job_id=query.job_id,
            endpoint_id=query.webhook_id,
        )
    shown = [dump_delivery(row) for row in rows[: query.limit]]
    return dump_list(shown, more=len(rows) > query.limit)


@bp.get("/deliveries/<delivery_id>")
@describe({200: Answer("The delivery.", Delivery)}, codes=DELIVERY_CODES)
def show_delivery(delivery_id: str) -> ResponseReturnValue:
    """Show one of the caller's deliveries."""
    with services().store.autocommit() as conn:
        return dump_delivery(_own_delivery(conn, delivery_id))


@bp.post("/deliveries/<delivery_id>/redeliver")
@describe(
    {202: Answer("The delivery, due again.", Delivery, headers=("Location",))},
    body=Nothing,
    may_be_empty=True,
    codes=(
        "unsupported_media_type",
        *DELIVERY_CODES,
        "webhook_disabled",
        "delivery_under_way",
    ),
)
def redeliver(delivery_id: str) -> ResponseReturnValue:
    """Deliver again, now, under the same `webhook-id`, whatever became of it before."""
    _body(Nothing)
    parts = services()
    with parts.store.begin() as tx:
        before = _own_delivery(tx, delivery_id)
        if before.disabled:
            raise _disabled()
        row = deliveries.redeliver(tx, before.id, owner_id=g.api_key.id)
    if row is None:
        raise BadRequest("delivery_under_way", "It is being delivered right now.", status=409)
    parts.webhook_due()
    return _delivery_accepted(row)


def _body(model: type[M]) -> M:
    """The request's JSON; no body at all stands for `{}`. Raises Invalid, BadRequest."""
    body = request.get_data(cache=False)
    if body and request.mimetype != "application/json":
        raise BadRequest("unsupported_media_type", "Send application/json.", status=415)
    return parse_json(model, body or b"{}")


def _secret(row: Row[Any]) -> str:
    return secret_for(services().settings.secret_key, row.id, row.webhook_secret_version)


def _rotate(tx: Connection, row: Row[Any], table: Table, asked: Rotation) -> ResponseReturnValue:
    rotated = endpoints.rotate(tx, row, table, asked.grace_seconds)
    if rotated is None:
        raise BadRequest(
            "rotation_under_way",
            "The secret before this one still signs; with `grace_seconds` 0 it stops at once.",
            status=409,
            pointer="/grace_seconds",
        )
    return dump_secret(_secret(rotated), rotated)


def _delivery_accepted(row: Row[Any]) -> ResponseReturnValue:
    where = url_for("webhooks.show_delivery", delivery_id=str(row.id))
    return dump_delivery(row), 202, {"Location": where}


def _own(tx: Connection, webhook_id: str) -> Row[Any]:
    """One of the caller's webhooks. Raises BadRequest: webhook_not_found."""
    known = _uuid(webhook_id)
    row = known and endpoints.get(tx, known, owner_id=g.api_key.id)
    if row is None:
        raise BadRequest("webhook_not_found", "There is no webhook of this id.", status=404)
    return row


def _own_delivery(tx: Connection, delivery_id: str) -> Row[Any]:
    """One of the caller's deliveries. Raises BadRequest: delivery_not_found."""
    known = _uuid(delivery_id)
    row = known and deliveries.get(tx, known, owner_id=g.api_key.id)
    if row is None:
        raise BadRequest("delivery_not_found", "There is no delivery of this id.", status=404)
    return row


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


def _disabled() -> BadRequest:
    return BadRequest(
        "webhook_disabled", "The webhook is disabled; enable it first with PATCH.", status=409
    )
