"""`stillmotion regions check`: checks a regions file before it is deployed."""

from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.table import Table

from app.cli.failures import ServerCommand
from app.config import regions_file
from app.config.regions_file import RegionsFileError
from app.domain.routing.topology import Ring, Topology
from stillmotion.cli.exit_status import ExitStatus
from stillmotion.cli.options import console, json_option, print_json


@click.command(cls=ServerCommand, epilog="Exit status: 0 valid, 2 unreadable, 78 invalid.")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def check(path: Path, as_json: bool) -> ExitStatus:
    """Check a regions file; print every error with its line."""
    try:
        topology = regions_file.read(path)
    except RegionsFileError as error:
        if as_json:
            faults = [{"line": fault.line, "detail": fault.sentence} for fault in error.problems]
            print_json({"valid": False, "faults": faults})
        else:
            for problem in error.problems:
                click.echo(str(problem), err=True)
        return ExitStatus.CONFIG
    if as_json:
        print_json({"valid": True, "regions": list(topology.names)})
    else:
        _show(topology)
    return ExitStatus.OK


def _show(topology: Topology) -> None:
    table = Table()
    for heading in ("region", "Redis", "broker", "near", "far", "beyond"):
        table.add_column(heading)
    for name in topology.names:
        region = topology[name]
        redis = _host(region.redis_url) or "REDIS_URL"
        default = redis if region.redis_url else "BROKER_URL"
        around: dict[Ring, list[str]] = {ring: [] for ring in (Ring.NEAR, Ring.FAR, Ring.ANY)}
        for other in topology.by_round_trip(name)[1:]:
            around[topology.ring(name, other)].append(f"{other} {region.rtt_ms[other]:g} ms")
        table.add_row(
            *(name, redis, _host(region.broker_url) or default),
            *("\n".join(lines) for lines in around.values()),
        )
    console().print(table)


def _host(url: str) -> str:
    """Host and port of a URL, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]
