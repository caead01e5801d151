"""`stillmotion plan`: GPUs per region for a forecast."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from app.cli.failures import ServerCommand
from app.config.settings import ConfigError, load_regions
from stillmotion.cli.exit_status import ExitStatus
from stillmotion.cli.options import console, json_option

if TYPE_CHECKING:
    from app.planning.planner import Plan


def _peaks(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    peaks: dict[str, float] = {}
    for value in values:
        name, equals, rate = value.partition("=")
        try:
            number = float(rate)
        except ValueError:
            equals = ""
        if not equals:
            raise click.BadParameter(f"{value!r} is not like us-east=12.5")
        if name in peaks:
            raise click.BadParameter(f"{name!r} is given twice")
        peaks[name] = number
    return peaks


@click.command(
    cls=ServerCommand,
    epilog="Exit status: 0 planned, 2 wrong usage, 6 no plan meets the demand, "
    "78 invalid regions file.",
)
@click.argument("regions_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--peak",
    "peaks",
    multiple=True,
    required=True,
    callback=_peaks,
    metavar="REGION=RATE",
    help="Jobs per second submitted in REGION at its peak; once per region.",
)
@click.option("--service", type=float, required=True, help="Mean seconds per job on one GPU.")
@click.option("--target-wait", type=float, help="p99 wait at the peak, seconds.")
@click.option(
    "--survive/--no-survive",
    default=True,
    show_default=True,
    help="Whether to withstand the failure of any one region (N+1).",
)
@click.option(
    "--max-rtt",
    type=click.FloatRange(min=0),
    default=float("inf"),
    help="Longest round trip, in ms, for the demand of a failed region.",
)
@json_option
def plan(
    regions_file: Path,
    peaks: dict[str, float],
    service: float,
    target_wait: float | None,
    survive: bool,
    max_rtt: float,
    as_json: bool,
) -> int:
    """Plan the GPUs per region for a forecast; REGIONS_FILE is the deployment's.

    Every region carries its own peak below its ceiling, and the others together carry that of any
    one region that fails. The routing auditor confirms the plan.
    """
    # scipy takes longer to load than everything else, and the API's image does without it.
    try:
        from app.planning.planner import Forecast, NoPlan, PlanError, make_plan
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Planning needs {error.name}, which the dispatcher's image has."
        ) from None

    topology = load_regions(regions_file)
    forecast = Forecast(peaks, service, target_wait, survive, max_rtt)
    try:
        made = make_plan(forecast, topology)
    except NoPlan as error:
        click.echo(f"stillmotion: {error}", err=True)
        return ExitStatus.NO_PLAN
    except PlanError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps({"gpus": made.gpus, **asdict(made)}, indent=2))
    else:
        _show(made)
    return 0


def _show(made: "Plan") -> None:
    out = console()
    table = Table(title=f"{made.gpus} GPUs")
    table.add_column("region")
    for heading in ("peak/s", "GPUs", "for home", "ceiling", "load", "worst load"):
        table.add_column(heading, justify="right")
    for r in made.regions:
        table.add_row(
            *(r.name, f"{r.peak:g}", str(r.gpus), str(r.home_gpus)),
            *(f"{r.ceiling:.2f}", f"{r.load:.2f}", f"{r.worst_load:.2f}"),
        )
    out.print(table)
    if not made.overflow:
        return
    flows = Table(title="If a region fails")
    flows.add_column("failed")
    flows.add_column("its jobs go to")
    for column in ("jobs/s", "ms"):
        flows.add_column(column, justify="right")
    last = ""
    for flow in made.overflow:
        home = flow.home if flow.home != last else ""
        flows.add_row(home, flow.target, f"{flow.per_s:.2f}", f"{flow.rtt_ms:.0f}")
        last = flow.home
    out.print(flows)
