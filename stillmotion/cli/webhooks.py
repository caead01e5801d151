"""`stillmotion webhooks`: endpoints, their secrets and their deliveries."""

from typing import TYPE_CHECKING, Any

import click

from stillmotion.cli.options import MAX_LIST, json_option, print_json, with_client
from stillmotion.signatures import ROTATION_GRACE_S, WebhookEvent

if TYPE_CHECKING:
    from stillmotion import Client, Delivery
    from stillmotion.models import NewWebhook, Secret

event_option = click.option(
    "--event",
    "events",
    type=click.Choice([str(event) for event in WebhookEvent]),
    multiple=True,
    help="Send this event; may be given several times. Default: every end of a job.",
)


@click.group()
def webhooks() -> None:
    """Register webhooks, rotate their secrets, look at deliveries."""


@webhooks.command("list")
@json_option
@with_client
def list_webhooks(client: "Client", as_json: bool) -> None:
    """Print all webhooks: id, on or why off, URL, events."""
    for hook in client.webhooks():
        if as_json:
            print_json(hook.raw)
        else:
            state = "on" if hook.enabled else hook.disabled_reason
            click.echo(f"{hook.id}  {state:<7}  {hook.url}  {','.join(hook.events)}")


@webhooks.command("create")
@click.argument("url")
@event_option
@json_option
@with_client
def create_webhook(client: "Client", url: str, events: tuple[str, ...], as_json: bool) -> None:
    """Call URL when any job of the key ends; print its secret, and its id to stderr."""
    made = client.create_webhook(url, list(events) or None)
    if not as_json:
        click.echo(f"id {made.id}", err=True)
    _print_secret(made, as_json)


@webhooks.command("update")
@click.argument("webhook_id")
@event_option
@click.option(
    "--enable/--disable", "enabled", default=None, help="Disabling drops pending deliveries."
)
@json_option
@with_client
def update_webhook(
    client: "Client",
    webhook_id: str,
    events: tuple[str, ...],
    enabled: bool | None,
    as_json: bool,
) -> None:
    """Change a webhook's events, disable it, or enable it again."""
    if not events and enabled is None:
        raise click.UsageError("pass --event, --enable or --disable")
    hook = client.update_webhook(webhook_id, events=list(events) or None, enabled=enabled)
    if as_json:
        print_json(hook.raw)


@webhooks.command("delete")
@click.argument("webhook_id")
@json_option
@with_client
def delete_webhook(client: "Client", webhook_id: str, as_json: bool) -> None:
    """Remove a webhook and the record of its deliveries."""
    client.delete_webhook(webhook_id)
    if as_json:
        print_json({"id": webhook_id, "deleted": True})


@webhooks.command("rotate")
@click.argument("webhook_id", required=False)
@click.option(
    "--grace",
    type=click.IntRange(min=0),
    default=ROTATION_GRACE_S,
    show_default=True,
    help="Seconds for which the old secret signs too.",
)
@json_option
@with_client
def rotate_secret(client: "Client", webhook_id: str | None, grace: int, as_json: bool) -> None:
    """Print a new secret for WEBHOOK_ID, or for the URLs that jobs name themselves."""
    _print_secret(client.rotate_secret(webhook_id, grace_seconds=grace), as_json)


@webhooks.command("test")
@click.argument("webhook_id")
@json_option
@with_client
def test_webhook(client: "Client", webhook_id: str, as_json: bool) -> None:
    """Send a test event; print its delivery, which `deliveries` then lists."""
    _print_delivery(client.test_webhook(webhook_id), as_json)


@webhooks.command("deliveries")
@click.option("--limit", type=click.IntRange(1, MAX_LIST), default=20, show_default=True)
@click.option("--state", type=click.Choice(["pending", "delivered", "failed"]))
@click.option("--job", "job_id", help="Only those of one job.")
@click.option("--webhook", "webhook_id", help="Only those to one webhook.")
@click.option("--after", help="The id of the last delivery on the previous page.")
@json_option
@with_client
def list_deliveries(client: "Client", as_json: bool, **filters: Any) -> None:
    """Print the newest deliveries: id, state, tries, last result, event, URL."""
    for delivery in client.deliveries(**filters):
        _print_delivery(delivery, as_json)


@webhooks.command("redeliver")
@click.argument("delivery_id")
@json_option
@with_client
def redeliver(client: "Client", delivery_id: str, as_json: bool) -> None:
    """Deliver again at once, whatever the earlier result."""
    _print_delivery(client.redeliver(delivery_id), as_json)


def _print_secret(made: "NewWebhook | Secret", as_json: bool) -> None:
    if as_json:
        print_json(made.raw)
        return
    if made.previous_secret_until is not None:
        until = made.raw["previous_secret_until"]
        click.echo(f"the previous secret signs too until {until}", err=True)
    click.echo(made.secret)


def _print_delivery(delivery: "Delivery", as_json: bool) -> None:
    if as_json:
        print_json(delivery.raw)
        return
    result = delivery.last_error or delivery.last_status or "-"
    click.echo(
        f"{delivery.id}  {delivery.state:<9}  {delivery.tries}  {result}  "
        f"{delivery.event}  {delivery.url}"
    )
