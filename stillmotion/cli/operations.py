"""`stillmotion regions`, `workers` and `audit`: what operators see of traffic and decide."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from stillmotion.cli.groups import Group
from stillmotion.cli.options import MAX_LIST, console, json_option, print_json, with_client

if TYPE_CHECKING:
    from stillmotion import Client
    from stillmotion.models import RegionLoad


# What is said in place of the load of a region that has no capacity.
IDLE = {"drained": "no new jobs", "no_workers": "no workers", "unknown": "no report"}


@click.group(cls=Group)
def regions() -> None:
    """Show regions and their routing; drain, cap and pin with an admin key."""


regions.add_server_command("check", "Check a regions file; print every error with its line.")


@click.group()
def workers() -> None:
    """Show GPU workers and their set-up; drain single ones. Needs an admin key."""


@workers.command("list")
@click.option("--region", help="Show this region's only.")
@json_option
@with_client
def list_workers(client: "Client", region: str | None, as_json: bool) -> None:
    """Print every worker: region, model, phase; its last log line if it is not ready."""
    found = client.workers(region=region)
    if as_json:
        print_json(found.raw)
        return
    for worker in found.data:
        last = "" if worker.phase == "ready" or not worker.log else f"  {worker.log[-1]}"
        click.echo(f"{worker.id}  {worker.region}  {worker.model}  {worker.phase}{last}")
    for name in found.unreached:
        click.echo(f"The Redis of {name} does not respond.", err=True)
    if found.has_more:
        click.echo("There are more; ask for one region, or use the API's `limit`.", err=True)


@regions.command("list")
@json_option
@with_client
def list_regions(client: "Client", as_json: bool) -> None:
    """Print workers, queue, load and shares of every region, and the table's age."""
    from rich.table import Table

    found = client.regions()
    if as_json:
        print_json(found.raw)
        return
    shown = Table()
    for heading in ("region", "ready", "busy", "waiting", "load", "ceiling", "shares", "decided"):
        shown.add_column(heading)
    for region in found.data:
        shown.add_row(
            region.id,
            *(_number(value) for value in (region.ready, region.busy, region.waiting)),
            IDLE.get(region.state or "") or _number(region.load),
            "" if region.state in IDLE else _number(region.ceiling),
            _shares(region.shares or {}),
            _decisions(region),
        )
    console().print(shown)
    table = found.table
    version = "no routing table" if table.version is None else f"table {table.version}"
    age = "" if table.age_s is None else f", {table.age_s:.0f} s old"
    click.echo(f"{version}{age}, mode {table.mode}{', pinned' if table.pinned else ''}")


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _shares(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(row.items()) if share > 0)


def _decisions(region: "RegionLoad") -> str:
    cap = [] if region.cap is None else [f"cap {region.cap}"]
    return ", ".join(["drained"] * region.drained + cap)


def _add_decision(
    group: click.Group, name: str, path: str, argument: str | None, text: str, done: str
) -> None:
    """Add a command that posts to `path` and prints `done`, both with the argument's value."""

    def run(client: "Client", as_json: bool, **values: str) -> None:
        subject = next(iter(values.values()), "")
        _decide(client, path.format(quote(subject, safe="")), as_json, done.format(subject))

    run.__doc__ = text
    command: Callable[..., Any] = json_option(with_client(run))
    if argument is not None:
        command = click.argument(argument)(command)
    group.command(name)(command)


def _decide(client: "Client", path: str, as_json: bool, done: str, **body: Any) -> None:
    decisions = client.decide(path, **body)
    if as_json:
        print_json(decisions.raw)
    else:
        click.echo(done)
    for region in decisions.unreached:
        click.echo(
            f"The Redis of {region} does not respond; it will learn of this later.", err=True
        )


_add_decision(
    regions,
    "drain",
    "/v1/regions/{}/drain",
    "region",
    "Give REGION no more work; its workers finish what they have.",
    "{} is drained.",
)
_add_decision(
    regions,
    "undrain",
    "/v1/regions/{}/undrain",
    "region",
    "Put REGION back into service.",
    "{} is in service.",
)
_add_decision(
    regions,
    "uncap",
    "/v1/regions/{}/uncap",
    "region",
    "Let all workers of REGION be busy again.",
    "{} has no cap.",
)
_add_decision(
    regions,
    "pin",
    "/v1/routing-table/pin",
    None,
    "Keep the present shares, whatever the load.",
    "The routing table is pinned.",
)
_add_decision(
    regions,
    "unpin",
    "/v1/routing-table/unpin",
    None,
    "Let the controller change the shares again.",
    "The routing table is not pinned.",
)
_add_decision(
    workers,
    "drain",
    "/v1/workers/{}/drain",
    "worker",
    "Give WORKER no more work; it finishes its job. A restarted worker has a new name.",
    "{} is drained.",
)
_add_decision(
    workers,
    "undrain",
    "/v1/workers/{}/undrain",
    "worker",
    "Give WORKER work again.",
    "{} is in service.",
)


@regions.command("cap")
@click.argument("region")
@click.argument("workers", type=click.IntRange(min=0))
@json_option
@with_client
def cap_region(client: "Client", region: str, workers: int, as_json: bool) -> None:
    """Let at most WORKERS of REGION be busy at a time."""
    path = f"/v1/regions/{quote(region, safe='')}/cap"
    _decide(client, path, as_json, f"{region} is capped at {workers}.", workers=workers)


@click.command()
@click.option("--limit", type=click.IntRange(1, MAX_LIST), default=20, show_default=True)
@json_option
@with_client
def audit(client: "Client", limit: int, as_json: bool) -> None:
    """Print operators' decisions, newest first: when, who, what, the values before and after."""
    for entry in client.audit(limit=limit):
        if as_json:
            print_json(entry.raw)
            continue
        change = f"{json.dumps(entry.old)} -> {json.dumps(entry.new)}"
        at, who = entry.raw["at"], entry.key.name
        click.echo(f"{at}  {who}  {entry.verb} {entry.subject}  {change}")
