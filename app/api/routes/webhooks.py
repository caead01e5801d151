"""Webhook endpoints, their secrets and their deliveries."""

from uuid import UUID

from flask import Blueprint, g, request, url_for
from flask.blueprints import BlueprintSetupState
from sqlalchemy import Connection, Table
from werkzeug.routing import BaseConverter

from app.api.models.base import EmptyBody
from app.api.models.query_string import parse_query
from app.api.models.webhook import (
    ChangedWebhook,
    Delivery,
    DeliveryPage,
    DeliveryQuery,
    NewWebhook,
    Rotation,
    Secret,
    Webhook,
    WebhookPage,
    WebhookWithSecret,
    place_after,
    present_deliveries,
    present_delivery,
    present_new_webhook,
    present_secret,
    present_webhook,
)
from app.api.openapi.operation import DELIVERY_CODES, WEBHOOK_CODES, ResponseSpec, Result, describe
from app.api.process.services import get_services
from app.api.request import auth
from app.api.request.json_body import read_body
from app.domain.errors import BadRequest
from app.domain.webhooks import secret_for
from app.outbound import vet_url
from app.store.webhooks import deliveries, endpoints
from app.store.webhooks.deliveries import Place
from app.store.webhooks.endpoints import MAX_ENDPOINTS, MAX_OPEN_TESTS, Disabled
from app.store.webhooks.records import (
    DeliveryRecord,
    EndpointRecord,
    OwnDelivery,
    SecretRecord,
)


class _WebhookId(BaseConverter):
    """Any id except the names of the sibling paths, which take other methods."""

    regex = r"(?!(?:secret|deliveries)(?:/|$))[^/]+"


bp = Blueprint("webhooks", __name__, url_prefix="/v1/webhooks")
bp.before_request(auth.require_jobs)


@bp.record
def _install(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["webhook"] = _WebhookId


@bp.post("")
@describe(
    {
        201: ResponseSpec(
            "The webhook, with its secret.",
            WebhookWithSecret,
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
def create_webhook() -> Result:
    """Register a URL to notify of every job of the caller; returns its secret."""
    services = get_services()
    asked = read_body(NewWebhook)
    try:
        url = vet_url(asked.url, services.allow)
    except BadRequest as error:
        error.pointer = "/url"
        raise
    owner_id = g.api_key.id
    with services.store.begin() as tx:
        if endpoints.count_locked(tx, owner_id) >= MAX_ENDPOINTS:
            raise BadRequest(
                "too_many_webhooks", f"A key has at most {MAX_ENDPOINTS} webhooks.", status=409
            )
        row = endpoints.add(tx, owner_id, url, asked.events)
    if row is None:
        raise BadRequest(
            "webhook_exists",
            "The key already has a webhook for this URL.",
            status=409,
            pointer="/url",
        )
    where = url_for("webhooks.show_webhook", webhook_id=str(row.id))
    return present_new_webhook(row, _secret(row)), 201, {"Location": where}


@bp.get("")
@describe({200: ResponseSpec("The webhooks.", WebhookPage)})
def list_webhooks() -> Result:
    """List the caller's webhooks, oldest first: all of them."""
    with get_services().store.autocommit() as conn:
        rows = endpoints.of_owner(conn, g.api_key.id)
    found = [present_webhook(row) for row in rows]
    return WebhookPage.cut(found, limit=MAX_ENDPOINTS)


@bp.get("/<webhook:webhook_id>")
@describe({200: ResponseSpec("The webhook.", Webhook)}, codes=WEBHOOK_CODES)
def show_webhook(webhook_id: str) -> Result:
    """Show one of the caller's webhooks, without its secret."""
    with get_services().store.autocommit() as conn:
        return present_webhook(_own(conn, webhook_id))


@bp.patch("/<webhook:webhook_id>")
@describe(
    {200: ResponseSpec("The webhook as it is now.", Webhook)},
    body=ChangedWebhook,
    may_be_empty=True,
    codes=("unsupported_media_type", *WEBHOOK_CODES),
    examples={"off": {"enabled": False}},
)
def change_webhook(webhook_id: str) -> Result:
    """Change a webhook: choose events, disable it (pending deliveries are given up), enable it."""
    asked = read_body(ChangedWebhook)
    with get_services().store.begin() as tx:
        row = _own(tx, webhook_id)
        if asked.events is not None:
            endpoints.choose_events(tx, row.id, asked.events)
        if asked.enabled is True:
            endpoints.enable(tx, row.id)
        elif asked.enabled is False:
            endpoints.disable(tx, row.id, Disabled.OWNER)
        return present_webhook(_own(tx, webhook_id))


@bp.delete("/<webhook:webhook_id>")
@describe({204: ResponseSpec("The webhook is removed.")}, codes=WEBHOOK_CODES)
def delete_webhook(webhook_id: str) -> Result:
    """Remove a webhook and the record of its deliveries."""
    with get_services().store.begin() as tx:
        row = _own(tx, webhook_id)
        endpoints.remove(tx, row.id, owner_id=g.api_key.id)
    return None, 204


@bp.post("/<webhook:webhook_id>/test")
@describe(
    {
        202: ResponseSpec(
            "The delivery.",
            Delivery,
            headers=("Location",),
            leads_to=("show_delivery", "redeliver"),
        )
    },
    body=EmptyBody,
    may_be_empty=True,
    codes=("unsupported_media_type", *WEBHOOK_CODES, "webhook_disabled", "test_pending"),
)
def test_webhook(webhook_id: str) -> Result:
    """Send a test event once, without retries; returns the delivery to watch."""
    read_body(EmptyBody)
    services = get_services()
    with services.store.begin() as tx:
        endpoint = _own(tx, webhook_id)
        if endpoint.disabled_at is not None:
            raise _disabled()
        row = endpoints.add_test(tx, endpoint)
    if row is None:
        raise BadRequest(
            "test_pending",
            f"{MAX_OPEN_TESTS} tests of this webhook are already under way.",
            status=409,
        )
    services.webhook_due()
    return _delivery_accepted(row)


@bp.get("/secret")
@describe({200: ResponseSpec("The secret.", Secret)})
def show_owner_secret() -> Result:
    """Show the secret that signs messages to the jobs' own `webhook_url`s."""
    with get_services().store.autocommit() as conn:
        row = endpoints.secret_of_owner(conn, g.api_key.id)
    return present_secret(_secret(row), row)


@bp.post("/secret/rotate")
@describe(
    {200: ResponseSpec("The new secret.", Secret)},
    body=Rotation,
    may_be_empty=True,
    codes=("unsupported_media_type", "rotation_under_way"),
)
def rotate_owner_secret() -> Result:
    """Make a new secret for messages to the jobs' own `webhook_url`s."""
    asked = read_body(Rotation)
    with get_services().store.begin() as tx:
        row = endpoints.secret_of_owner(tx, g.api_key.id)
        return _rotate(tx, row, endpoints.api_keys, asked)


@bp.get("/<webhook:webhook_id>/secret")
@describe({200: ResponseSpec("The secret.", Secret)}, codes=WEBHOOK_CODES)
def show_secret(webhook_id: str) -> Result:
    """Show a webhook's secret."""
    with get_services().store.autocommit() as conn:
        row = _own(conn, webhook_id)
    return present_secret(_secret(row), row)


@bp.post("/<webhook:webhook_id>/secret/rotate")
@describe(
    {200: ResponseSpec("The new secret.", Secret)},
    body=Rotation,
    may_be_empty=True,
    codes=("unsupported_media_type", *WEBHOOK_CODES, "rotation_under_way"),
)
def rotate_secret(webhook_id: str) -> Result:
    """Make a new secret for a webhook; both sign until `previous_secret_until`."""
    asked = read_body(Rotation)
    with get_services().store.begin() as tx:
        return _rotate(tx, _own(tx, webhook_id), endpoints.endpoints, asked)


@bp.get("/deliveries")
@describe(
    {200: ResponseSpec("A page of deliveries.", DeliveryPage)},
    query=DeliveryQuery,
    codes=("delivery_not_found",),
)
def list_deliveries() -> Result:
    """List the caller's deliveries, newest first."""
    query = parse_query(DeliveryQuery, request.query_string)
    with get_services().store.autocommit() as conn:
        rows = deliveries.page(
            conn,
            g.api_key.id,
            limit=query.limit + 1,
            after=None if query.after is None else _place(conn, query.after),
            state=query.state,
            event=query.event,
            job_id=query.job_id,
            endpoint_id=query.webhook_id,
        )
    return present_deliveries(rows, query.limit)


@bp.get("/deliveries/<delivery_id>")
@describe({200: ResponseSpec("The delivery.", Delivery)}, codes=DELIVERY_CODES)
def show_delivery(delivery_id: str) -> Result:
    """Show one of the caller's deliveries."""
    with get_services().store.autocommit() as conn:
        return present_delivery(_own_delivery(conn, delivery_id))


@bp.post("/deliveries/<delivery_id>/redeliver")
@describe(
    {202: ResponseSpec("The delivery, due again.", Delivery, headers=("Location",))},
    body=EmptyBody,
    may_be_empty=True,
    codes=(
        "unsupported_media_type",
        *DELIVERY_CODES,
        "webhook_disabled",
        "delivery_under_way",
    ),
)
def redeliver(delivery_id: str) -> Result:
    """Deliver again now, under the same `webhook-id`, whatever the outcome before."""
    read_body(EmptyBody)
    services = get_services()
    with services.store.begin() as tx:
        before = _own_delivery(tx, delivery_id)
        if before.disabled:
            raise _disabled()
        row = deliveries.redeliver(tx, before.id, owner_id=g.api_key.id)
    if row is None:
        raise BadRequest(
            "delivery_under_way", "The delivery is being attempted right now.", status=409
        )
    services.webhook_due()
    return _delivery_accepted(row)


def _secret(row: EndpointRecord | SecretRecord) -> str:
    return secret_for(get_services().settings.secret_key, row.id, row.webhook_secret_version)


def _rotate(
    tx: Connection, row: EndpointRecord | SecretRecord, table: Table, asked: Rotation
) -> Secret:
    rotated = endpoints.rotate(tx, row, table, asked.grace_seconds)
    if rotated is None:
        raise BadRequest(
            "rotation_under_way",
            "The previous secret still signs; send `grace_seconds` 0 to end that at once.",
            status=409,
            pointer="/grace_seconds",
        )
    return present_secret(_secret(rotated), rotated)


def _delivery_accepted(row: DeliveryRecord) -> Result:
    where = url_for("webhooks.show_delivery", delivery_id=str(row.id))
    return present_delivery(row), 202, {"Location": where}


def _own(conn: Connection, webhook_id: str) -> EndpointRecord:
    """One of the caller's webhooks. Raises BadRequest: webhook_not_found."""
    known = _uuid(webhook_id)
    row = None if known is None else endpoints.get(conn, known, owner_id=g.api_key.id)
    if row is None:
        raise BadRequest("webhook_not_found", "No such webhook.", status=404)
    return row


def _own_delivery(conn: Connection, delivery_id: str) -> OwnDelivery:
    """One of the caller's deliveries. Raises BadRequest: delivery_not_found."""
    known = _uuid(delivery_id)
    row = None if known is None else deliveries.get(conn, known, owner_id=g.api_key.id)
    if row is None:
        raise BadRequest("delivery_not_found", "No such delivery.", status=404)
    return row


def _place(conn: Connection, cursor: str) -> Place:
    """Where a page begins. Raises BadRequest: delivery_not_found."""
    place = place_after(cursor)
    if isinstance(place, Place):
        return place
    row = _own_delivery(conn, str(place))
    return Place(row.created_at, row.id)


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


def _disabled() -> BadRequest:
    return BadRequest(
        "webhook_disabled", "The webhook is disabled; enable it first with PATCH.", status=409
    )
