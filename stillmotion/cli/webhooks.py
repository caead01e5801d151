"""`stillmotion webhooks`: endpoints, their secrets, and what was delivered to them."""

from typing import Any

import click

from stillmotion import Client, Delivery
from stillmotion.answers import NewWebhook, Secret
from stillmotion.cli.options import MAX_LIST, json_option, print_json, server_options
from stillmotion.signatures import ROTATION_GRACE_S, WebhookEvent

event_option = click.option(
    "--event",
    "events",
    type=click.Choice([str(event) for event in WebhookEvent]),
    multiple=True,
    help="Announce this; may be given several times. All ends of jobs, if it is not given.",
)


@click.group()
def webhooks() -> None:
    """Register webhooks, rotate their secrets, look at deliveries."""


@webhooks.command("list")
@json_option
@server_options
def list_webhooks(as_json: bool, server: str, key: str) -> None:
    """Print all webhooks: id, on or why off, URL, events."""
    with Client(server, key) as client:
        found = client.webhooks()
    for hook in found:
        if as_json:
            print_json(hook.raw)
        else:
            state = "on" if hook.enabled else hook.disabled_reason
            click.echo(f"{hook.id}  {state:<7}  {hook.url}  {','.join(hook.events)}")


@webhooks.command("create")
@click.argument("url")
@event_option
@json_option
@server_options
def create_webhook(url: str, events: tuple[str, ...], as_json: bool, server: str, key: str) -> None:
    """Register URL for the ends of all the key's jobs; print its secret, and its id to stderr."""
    with Client(server, key) as client:
        made = client.create_webhook(url, list(events) or None)
    if not as_json:
        click.echo(f"id {made.id}", err=True)
    _print_secret(made, as_json)


@webhooks.command("update")
@click.argument("webhook_id")
@event_option
@click.option(
    "--enable/--disable", "enabled", default=None, help="Disabling gives up what is owed."
)
@json_option
@server_options
def update_webhook(
    webhook_id: str,
    events: tuple[str, ...],
    enabled: bool | None,
    as_json: bool,
    server: str,
    key: str,
) -> None:
    """Choose other events, disable a webhook, or enable it again."""
    if not events and enabled is None:
        raise click.UsageError("say --event, --enable or --disable")
    with Client(server, key) as client:
        hook = client.update_webhook(webhook_id, events=list(events) or None, enabled=enabled)
    if as_json:
        print_json(hook.raw)


@webhooks.command("delete")
@click.argument("webhook_id")
@json_option
@server_options
def delete_webhook(webhook_id: str, as_json: bool, server: str, key: str) -> None:
    """Remove a webhook and the record of its deliveries."""
    with Client(server, key) as client:
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
    help="Seconds for which the old secret signs as well.",
)
@json_option
@server_options
def rotate_secret(webhook_id: str | None, grace: int, as_json: bool, server: str, key: str) -> None:
    """Print a new secret for WEBHOOK_ID, or for the addresses that jobs name."""
    with Client(server, key) as client:
        _print_secret(client.rotate_secret(webhook_id, grace_seconds=grace), as_json)


@webhooks.command("test")
@click.argument("webhook_id")
@json_option
@server_options
def test_webhook(webhook_id: str, as_json: bool, server: str, key: str) -> None:
    """Send a test event; prints its delivery, which `deliveries` shows from then on."""
    with Client(server, key) as client:
        _print_delivery(client.test_webhook(webhook_id), as_json)


@webhooks.command("deliveries")
@click.option("--limit", type=click.IntRange(1, MAX_LIST), default=20, show_default=True)
@click.option("--state", type=click.Choice(["pending", "delivered", "failed"]))
@click.option("--job", "job_id", help="Only those of one job.")
@click.option("--webhook", "webhook_id", help="Only those to one webhook.")
@click.option("--after", help="The id of the last delivery of the page before.")
@json_option
@server_options
def list_deliveries(as_json: bool, server: str, key: str, **filters: Any) -> None:
    """Print the newest deliveries: id, state, tries, last answer, event, URL."""
    with Client(server, key) as client:
        for delivery in client.deliveries(**filters):
            _print_delivery(delivery, as_json)


@webhooks.command("redeliver")
@click.argument("delivery_id")
@json_option
@server_options
def redeliver(delivery_id: str, as_json: bool, server: str, key: str) -> None:
    """Deliver again, now, whatever became of it before."""
    with Client(server, key) as client:
        _print_delivery(client.redeliver(delivery_id), as_json)


def _print_secret(made: NewWebhook | Secret, as_json: bool) -> None:
    if as_json:
        print_json(made.raw)
        return
    if made.previous_secret_until is not None:
        until = made.raw["previous_secret_until"]
        click.echo(f"the secret before it signs as well until {until}", err=True)
    click.echo(made.secret)


def _print_delivery(delivery: Delivery, as_json: bool) -> None:
    if as_json:
        print_json(delivery.raw)
        return
    answer = delivery.last_error or delivery.last_status or "-"
    click.echo(
        f"{delivery.id}  {delivery.state:<9}  {delivery.tries}  {answer}  "
        f"{delivery.event}  {delivery.url}"
    )
