"""Run a benchmark and print its figures as a table; --json also writes them to a file."""

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from app.planning.traces import TraceError
from scripts.benchmarks.figures import as_json, table
from scripts.stack import StackError

BENCHMARKS = (
    "abuse",
    "engines",
    "faults",
    "gap",
    "jobs_api",
    "load",
    "model",
    "overload",
    "pipeline",
    "scale",
    "soak",
    "traffic",
)
BROKERS = ("valkey", "rabbitmq", "rabbitmq-quorum")
FAULT_PARTS = ("storm", "scenarios")
DRAWING = ("load", "traffic")  # those that replay traces and draw plots


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="few repeats, for a rough look")
    parser.add_argument(
        "--peers",
        action="store_true",
        help="pipeline: also measure the job API, two applications with the same promise "
        "(Procrastinate; Flask with Celery), BentoML and Ray Serve (each of the four in a virtual "
        "environment of its own)",
    )
    parser.add_argument(
        "--full-size",
        action="store_true",
        help="engines: also published models with random weights; needs a GPU of 80 GB",
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
    breaking = parser.add_argument_group("faults, overload and soak")
    breaking.add_argument(
        "--minutes", type=float, help="of each storm (15), overload (5) or soak (120)"
    )
    breaking.add_argument("--seed", type=int, nargs="+", default=[1], help="a storm for each")
    breaking.add_argument("--broker", choices=BROKERS, default="valkey")
    breaking.add_argument("--knee", type=float, help="overload: jobs/s; default: by a ramp")
    breaking.add_argument("--rate", type=float, help="soak: jobs/s")
    part = breaking.add_mutually_exclusive_group()
    part.add_argument("--storm", action="store_true", help="only the random faults")
    part.add_argument("--scenarios", action="store_true", help="only the recovery times")
    arguments = parser.parse_args()
    if arguments.trace is not None and not arguments.trace.is_file():
        parser.error(f"no such file: {arguments.trace}")
    if arguments.peers and arguments.name != "pipeline":
        parser.error("--peers works with pipeline only")
    if arguments.full_size and arguments.name != "engines":
        parser.error("--full-size works with engines only")
    before = os.getloadavg()[0]
    # Import only the chosen one: some need torch, which would slow down the others.
    benchmark = import_module(f"scripts.benchmarks.{arguments.name}")
    more: dict[str, Any] = {"peers": True} if arguments.peers else {}
    if arguments.name in DRAWING:
        plots = arguments.plots or Path("docs") / arguments.name
        more = {"plots": plots, "trace": arguments.trace}
    if arguments.name == "engines":
        more = {"full_size": arguments.full_size}
    if arguments.name == "overload":
        more = {"minutes": arguments.minutes, "knee_rate": arguments.knee}
    if arguments.name == "soak":
        more = {"minutes": arguments.minutes, "rate": arguments.rate}
    if arguments.name == "faults":
        both = not (arguments.storm or arguments.scenarios)
        more = {
            "minutes": arguments.minutes,
            "seeds": arguments.seed,
            "broker": arguments.broker,
            "parts": [part for part in FAULT_PARTS if both or getattr(arguments, part)],
        }
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
