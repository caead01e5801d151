"""The calls about webhooks (see wire.py)."""

from uuid import UUID

from stillmotion.models import Delivery, NewWebhook, Secret, Webhook
from stillmotion.requests import (
    fetch,
    fetch_list,
    fetch_pages,
    json_body,
    quoted,
    remove,
    without_none,
)
from stillmotion.wire import Flow, Items, Repeat, Request

BASE = "/v1/webhooks"


def webhooks() -> Flow[list[Webhook]]:
    """All webhooks of the key, oldest first. Raises Rejected, Unreachable."""
    return (yield from fetch_list(Webhook, BASE))


def create_webhook(url: str, events: list[str] | None = None) -> Flow[NewWebhook]:
    """Register a URL to be called when any job of the key ends; `events` selects some endings.

    Raises Rejected, Unreachable.
    """
    body = json_body(**without_none({"url": url, "events": events}))
    request = Request("POST", BASE, body, repeat=Repeat.UNSENT)
    return (yield from fetch(NewWebhook, request))


def update_webhook(
    webhook_id: UUID | str, *, events: list[str] | None = None, enabled: bool | None = None
) -> Flow[Webhook]:
    """Change the events, or disable or enable the webhook; disabling drops pending deliveries.

    Raises Rejected, Unreachable.
    """
    body = json_body(**without_none({"events": events, "enabled": enabled}))
    return (yield from fetch(Webhook, Request("PATCH", _path(webhook_id), body)))


def delete_webhook(webhook_id: UUID | str) -> Flow[None]:
    """Remove a webhook and the record of its deliveries. Raises Rejected, Unreachable."""
    yield from remove(_path(webhook_id), "webhook_not_found")


def rotate_secret(
    webhook_id: UUID | str | None = None, *, grace_seconds: int | None = None
) -> Flow[Secret]:
    """Create a new secret. Until the grace period ends, a day by default, the old one signs too.

    Without a `webhook_id` this is the secret for the URLs that jobs name themselves. Raises
    Rejected, Unreachable.
    """
    path = f"{BASE}/secret" if webhook_id is None else _path(webhook_id, "/secret")
    body = json_body(**without_none({"grace_seconds": grace_seconds}))
    request = Request("POST", f"{path}/rotate", body, repeat=Repeat.UNSENT)
    return (yield from fetch(Secret, request))


def test_webhook(webhook_id: UUID | str) -> Flow[Delivery]:
    """Send a test event, once. Raises Rejected, Unreachable."""
    path = _path(webhook_id, "/test")
    return (yield from fetch(Delivery, Request("POST", path, repeat=Repeat.UNSENT)))


def deliveries(
    *,
    limit: int | None = None,
    after: UUID | str | None = None,
    state: str | None = None,
    event: str | None = None,
    job_id: str | None = None,
    webhook_id: UUID | str | None = None,
) -> Items[Delivery]:
    """Deliveries, newest first; `after` is the id of one. Raises Rejected, Unreachable."""
    query = {"after": after, "state": state, "event": event}
    query |= {"job_id": job_id, "webhook_id": webhook_id}
    return fetch_pages(Delivery, f"{BASE}/deliveries", query, limit)


def redeliver(delivery_id: UUID | str) -> Flow[Delivery]:
    """Deliver again at once, under the same id. Raises Rejected, Unreachable."""
    path = f"{BASE}/deliveries/{quoted(delivery_id)}/redeliver"
    return (yield from fetch(Delivery, Request("POST", path, repeat=Repeat.UNSENT)))


def _path(webhook_id: UUID | str, call: str = "") -> str:
    return f"{BASE}/{quoted(webhook_id)}{call}"
