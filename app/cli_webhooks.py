"""`stillmotion webhooks`: endpoints, their secrets, and what was delivered to them."""

import json
from typing import Any
from urllib.parse import quote

import click

from app.cli_options import server_options
from app.client import Client
from app.domain.webhooks import ROTATION_GRACE_S, WebhookEvent

BASE = "/v1/webhooks"

json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")


@click.group()
def webhooks() -> None:
    """Register webhooks, rotate their secrets, look at deliveries."""


@webhooks.command("list")
@json_option
@server_options
def list_webhooks(as_json: bool, server: str, key: str) -> None:
    """Print all webhooks: id, on or why off, URL, events."""
    with Client(server, key) as client:
        found = client.call("GET", BASE)["data"]
    for hook in found:
        state = "on" if hook["enabled"] else hook["disabled_reason"]
        line = f"{hook['id']}  {state:<7}  {hook['url']}  {','.join(hook['events'])}"
        click.echo(_json(hook) if as_json else line)


@webhooks.command("create")
@click.argument("url")
@click.option(
    "--event",
    "events",
    type=click.Choice([str(event) for event in WebhookEvent]),
    multiple=True,
    help="Announce this; may be given several times. All ends of jobs, if it is not given.",
)
@json_option
@server_options
def create_webhook(url: str, events: tuple[str, ...], as_json: bool, server: str, key: str) -> None:
    """Register URL for the ends of all the key's jobs; print its secret, and its id to stderr."""
    body = {"url": url} | ({"events": list(events)} if events else {})
    with Client(server, key) as client:
        made = client.call("POST", BASE, json=body)
    _print_secret(made, as_json)


@webhooks.command("delete")
@click.argument("webhook_id")
@server_options
def delete_webhook(webhook_id: str, server: str, key: str) -> None:
    """Remove a webhook and the record of its deliveries."""
    with Client(server, key) as client:
        client.call("DELETE", _path(webhook_id))


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
    path = f"{BASE}/secret" if webhook_id is None else _path(webhook_id, "/secret")
    with Client(server, key) as client:
        made = client.call("POST", f"{path}/rotate", json={"grace_seconds": grace})
    _print_secret(made, as_json)


@webhooks.command("test")
@click.argument("webhook_id")
@json_option
@server_options
def test_webhook(webhook_id: str, as_json: bool, server: str, key: str) -> None:
    """Send a test event; prints its delivery, which `deliveries` shows from then on."""
    with Client(server, key) as client:
        _print_delivery(client.call("POST", _path(webhook_id, "/test")), as_json)


@webhooks.command("deliveries")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--state", type=click.Choice(["pending", "delivered", "failed"]))
@click.option("--job", "job_id", help="Only those of one job.")
@click.option("--webhook", "webhook_id", help="Only those to one webhook.")
@click.option("--after", help="The id of the last delivery of the page before.")
@json_option
@server_options
def list_deliveries(as_json: bool, server: str, key: str, **filters: Any) -> None:
    """Print the newest deliveries: id, state, tries, last answer, event, URL."""
    query = {name: value for name, value in filters.items() if value is not None}
    with Client(server, key) as client:
        found = client.call("GET", f"{BASE}/deliveries", params=query)["data"]
    for delivery in found:
        _print_delivery(delivery, as_json)


@webhooks.command("redeliver")
@click.argument("delivery_id")
@json_option
@server_options
def redeliver(delivery_id: str, as_json: bool, server: str, key: str) -> None:
    """Deliver again, now, whatever became of it before."""
    with Client(server, key) as client:
        path = f"{_path('deliveries')}/{quote(delivery_id, safe='')}/redeliver"
        _print_delivery(client.call("POST", path), as_json)


def _path(webhook_id: str, call: str = "") -> str:
    return f"{BASE}/{quote(webhook_id, safe='')}{call}"


def _print_secret(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(_json(made))
        return
    if "id" in made:
        click.echo(f"id {made['id']}", err=True)
    if until := made["previous_secret_until"]:
        click.echo(f"the secret before it signs as well until {until}", err=True)
    click.echo(made["secret"])


def _print_delivery(delivery: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(_json(delivery))
        return
    answer = delivery["last_error"] or delivery["last_status"] or "-"
    click.echo(
        f"{delivery['id']}  {delivery['state']:<9}  {delivery['tries']}  {answer}  "
        f"{delivery['event']}  {delivery['url']}"
    )


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
