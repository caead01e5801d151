"""Run a benchmark and print its figures as a table; --json also writes them to a file."""

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console

from app.planning.traces import TraceError
from scripts.benchmarks.figures import as_json, table
from scripts.stack import StackError

BENCHMARKS = ("jobs_api", "load", "model", "pipeline", "traffic")
DRAWING = ("load", "traffic")  # these replay traces and draw plots


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="few repeats, for a rough look")
    parser.add_argument(
        "--peers",
        action="store_true",
        help="pipeline: also measure the job API, BentoML and Ray Serve (the last two each in "
        "a virtual environment of its own)",
    )
    options = parser.add_argument_group(" and ".join(DRAWING))
    options.add_argument("--plots", type=Path, metavar="DIR", help="default: docs/NAME")
    options.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="traffic: an Azure LLM inference trace to replay as well; load: any trace that "
        "app/planning/traces.py reads, instead of Poisson arrivals",
    )
    arguments = parser.parse_args()
    if arguments.trace is not None and not arguments.trace.is_file():
        parser.error(f"no such file: {arguments.trace}")
    if arguments.peers and arguments.name != "pipeline":
        parser.error("--peers works with pipeline only")
    before = os.getloadavg()[0]
    # Import only the chosen one: some need torch, which would slow down the others.
    benchmark = import_module(f"scripts.benchmarks.{arguments.name}")
    more = {"peers": True} if arguments.peers else {}
    if arguments.name in DRAWING:
        plots = arguments.plots or Path("docs") / arguments.name
        more = {"plots": plots, "trace": arguments.trace}
    try:
        rows = benchmark.run(quick=arguments.quick, **more)
    except StackError as error:
        print(error, file=sys.stderr)
        return 69
    except TraceError as error:
        print(error, file=sys.stderr)
        return 2
    title = f"{arguments.name} (load average {before:.1f} before the run)"
    Console().print(table(title, rows))
    if arguments.json:
        arguments.json.write_text(as_json(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
