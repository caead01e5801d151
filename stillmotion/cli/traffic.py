"""`stillmotion regions`, `workers` and `audit`: what operators see and decide about traffic."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from app.cli.regions import check
from stillmotion import Client
from stillmotion.answers import RegionLoad
from stillmotion.cli.options import MAX_LIST, json_option, print_json, server_options


@click.group()
def regions() -> None:
    """Look at regions and their routing; drain, cap and pin with an admin key."""


regions.add_command(check)


@click.group()
def workers() -> None:
    """Drain single GPU workers, with an admin key."""


@regions.command("list")
@json_option
@server_options
def list_regions(as_json: bool, server: str, key: str) -> None:
    """Print every region's workers, queue, load and shares, and the table's age."""
    with Client(server, key) as client:
        answer = client.regions()
    if as_json:
        print_json(answer.raw)
        return
    shown = Table()
    for heading in ("region", "ready", "busy", "waiting", "load", "ceiling", "shares", "decided"):
        shown.add_column(heading)
    for region in answer.data:
        shown.add_row(
            region.id,
            *(_number(value) for value in (region.ready, region.busy, region.waiting)),
            *(_number(value) for value in (region.load, region.ceiling)),
            _shares(region.shares or {}),
            _decided(region),
        )
    Console().print(shown)
    table = answer.table
    age = "no routing table" if table.version is None else f"table {table.version}"
    old = "" if table.age_s is None else f", {table.age_s:.0f} s old"
    click.echo(f"{age}{old}, mode {table.mode}{', pinned' if table.pinned else ''}")


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _shares(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(row.items()) if share > 0)


def _decided(region: RegionLoad) -> str:
    cap = [] if region.cap is None else [f"cap {region.cap}"]
    return ", ".join(["drained"] * region.drained + cap)


def _verb(
    group: click.Group, name: str, path: str, argument: str | None, text: str, done: str
) -> None:
    """Add a command that posts to `path` and prints `done`, both with the argument's value."""

    def run(as_json: bool, server: str, key: str, **values: str) -> None:
        subject = next(iter(values.values()), "")
        address = path.format(quote(subject, safe=""))
        _post(server, key, address, as_json, done.format(subject))

    run.__doc__ = text
    command: Callable[..., Any] = json_option(server_options(run))
    if argument is not None:
        command = click.argument(argument)(command)
    group.command(name)(command)


def _post(server: str, key: str, path: str, as_json: bool, done: str, **body: Any) -> None:
    with Client(server, key) as client:
        decided = client.decide(path, **body)
    if as_json:
        print_json(decided.raw)
    else:
        click.echo(done)
    for region in decided.unreached:
        click.echo(f"The Redis of {region} does not answer; it is told within seconds.", err=True)


_verb(
    regions,
    "drain",
    "/v1/regions/{}/drain",
    "region",
    "Give REGION no more work; what its workers do is finished.",
    "{} is drained.",
)
_verb(
    regions,
    "undrain",
    "/v1/regions/{}/undrain",
    "region",
    "Take REGION back into service.",
    "{} is in service.",
)
_verb(
    regions,
    "uncap",
    "/v1/regions/{}/uncap",
    "region",
    "Let all workers of REGION be busy again.",
    "{} has no cap.",
)
_verb(
    regions,
    "pin",
    "/v1/routing-table/pin",
    None,
    "Keep the shares in force, whatever the load.",
    "The routing table is pinned.",
)
_verb(
    regions,
    "unpin",
    "/v1/routing-table/unpin",
    None,
    "Let the controller route again.",
    "The routing table is not pinned.",
)
_verb(
    workers,
    "drain",
    "/v1/workers/{}/drain",
    "worker",
    "Give WORKER no more work; what it does is finished. A restarted worker has a new name.",
    "{} is drained.",
)
_verb(
    workers,
    "undrain",
    "/v1/workers/{}/undrain",
    "worker",
    "Let WORKER have work again.",
    "{} is in service.",
)


@regions.command("cap")
@click.argument("region")
@click.argument("workers", type=click.IntRange(min=0))
@json_option
@server_options
def cap_region(region: str, workers: int, as_json: bool, server: str, key: str) -> None:
    """Let at most WORKERS of REGION be busy at a time."""
    path = f"/v1/regions/{quote(region, safe='')}/cap"
    _post(server, key, path, as_json, f"{region} is capped at {workers}.", workers=workers)


@click.command()
@click.option("--limit", type=click.IntRange(1, MAX_LIST), default=20, show_default=True)
@json_option
@server_options
def audit(limit: int, as_json: bool, server: str, key: str) -> None:
    """Print operators' verbs, newest first: when, who, what, the value before and after."""
    with Client(server, key) as client:
        for entry in client.audit(limit=limit):
            if as_json:
                print_json(entry.raw)
                continue
            change = f"{json.dumps(entry.old)} -> {json.dumps(entry.new)}"
            at, who = entry.raw["at"], entry.key.name
            click.echo(f"{at}  {who}  {entry.verb} {entry.subject}  {change}")
