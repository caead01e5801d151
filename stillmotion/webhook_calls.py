"""The calls about webhooks (see wire.py)."""

from uuid import UUID

from stillmotion.answers import Delivery, NewWebhook, Secret, Webhook
from stillmotion.requests import ask, ask_all, body_of, given, pages, quoted, remove
from stillmotion.wire import Flow, Items, Repeat, Request

BASE = "/v1/webhooks"


def webhooks() -> Flow[list[Webhook]]:
    """All webhooks of the key, oldest first. Raises Rejected, Unreachable."""
    return (yield from ask_all(Webhook, BASE))


def create_webhook(url: str, events: list[str] | None = None) -> Flow[NewWebhook]:
    """Register an address for the ends of all the key's jobs, or for some `events`.

    Raises Rejected, Unreachable.
    """
    body = body_of(**given({"url": url, "events": events}))
    request = Request("POST", BASE, body, repeat=Repeat.UNSENT)
    return (yield from ask(NewWebhook, request))


def update_webhook(
    webhook_id: UUID | str, *, events: list[str] | None = None, enabled: bool | None = None
) -> Flow[Webhook]:
    """Choose other events; disable, which gives up what is owed; enable again.

    Raises Rejected, Unreachable.
    """
    body = body_of(**given({"events": events, "enabled": enabled}))
    return (yield from ask(Webhook, Request("PATCH", _path(webhook_id), body)))


def delete_webhook(webhook_id: UUID | str) -> Flow[None]:
    """Remove a webhook and the record of its deliveries. Raises Rejected, Unreachable."""
    yield from remove(_path(webhook_id), "webhook_not_found")


def rotate_secret(
    webhook_id: UUID | str | None = None, *, grace_seconds: int | None = None
) -> Flow[Secret]:
    """Make a new secret; the old one signs as well for the grace, a day if not said.

    None: the secret for the addresses that jobs name. Raises Rejected, Unreachable.
    """
    path = f"{BASE}/secret" if webhook_id is None else _path(webhook_id, "/secret")
    body = body_of(**given({"grace_seconds": grace_seconds}))
    request = Request("POST", f"{path}/rotate", body, repeat=Repeat.UNSENT)
    return (yield from ask(Secret, request))


def test_webhook(webhook_id: UUID | str) -> Flow[Delivery]:
    """Send a test event, once. Raises Rejected, Unreachable."""
    path = _path(webhook_id, "/test")
    return (yield from ask(Delivery, Request("POST", path, repeat=Repeat.UNSENT)))


def deliveries(
    *,
    limit: int | None = None,
    after: UUID | str | None = None,
    state: str | None = None,
    event: str | None = None,
    job_id: str | None = None,
    webhook_id: UUID | str | None = None,
) -> Items[Delivery]:
    """What was sent, newest first; `after`: a delivery. Raises Rejected, Unreachable."""
    query = {"after": after, "state": state, "event": event}
    query |= {"job_id": job_id, "webhook_id": webhook_id}
    return pages(Delivery, f"{BASE}/deliveries", query, limit)


def redeliver(delivery_id: UUID | str) -> Flow[Delivery]:
    """Deliver again, now, under the same id. Raises Rejected, Unreachable."""
    path = f"{BASE}/deliveries/{quoted(delivery_id)}/redeliver"
    return (yield from ask(Delivery, Request("POST", path, repeat=Repeat.UNSENT)))


def _path(webhook_id: UUID | str, call: str = "") -> str:
    return f"{BASE}/{quoted(webhook_id)}{call}"
