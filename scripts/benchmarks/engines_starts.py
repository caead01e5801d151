"""A worker's start with compiled packages, in a process of its own, and where its time goes.

    python -m scripts.benchmarks.engines_starts PROFILE.toml

Prints a line of JSON. A process that has compiled or rendered before would have done much of it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.config import profiles_file
from scripts.benchmarks.engines_stages import replaced
from scripts.stack.data import ROOT
from workers.engines.diffusers import engine as engine_module
from workers.engines.diffusers import graphs
from workers.engines.registry import load_engine

LIMIT_S = 300.0
# Not of engines_toys: this process imports what a worker does, and no more.
SETTINGS: Any = SimpleNamespace(steps_of=lambda profile: profile.steps)


@dataclass(frozen=True)
class Start:
    """Seconds from a profile to readiness. The libraries are imported before."""

    weights_s: float = 0.0  # from the files to their place
    packages_s: float = 0.0  # opened and loaded
    compared_s: float = 0.0  # run by the side of the network, and compared
    clip_s: float = 0.0  # all the rest: checks, and a picture rendered at the one size

    @property
    def warm_start_s(self) -> float:
        """Beyond reading the weights."""
        return self.packages_s + self.compared_s + self.clip_s


def typical_start(profile: Path, repeats: int) -> Start:
    """The median of some, each in a new process."""
    found = sorted((_started(profile) for _ in range(repeats)), key=lambda each: each.warm_start_s)
    return found[len(found) // 2]


def _started(profile: Path) -> Start:
    command = [sys.executable, "-m", "scripts.benchmarks.engines_starts", str(profile)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True
    )
    return Start(**json.loads(done.stdout.splitlines()[-1]))  # after what the engine logs


class _Watch:
    """Seconds of functions by stage, without those of others that they call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within = [0.0]  # of functions that are running, the seconds of others in them

    def timed(self, stage: str) -> Callable[[Any], Any]:
        """A change to a function, for `replaced`."""

        def change(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                self._within.append(0.0)
                began = time.perf_counter()
                try:
                    return function(*args, **kwargs)
                finally:
                    took = time.perf_counter() - began
                    own = took - self._within.pop()
                    self._within[-1] += took
                    self.seconds[stage] = self.seconds.get(stage, 0.0) + own

            return call

        return change


def measure(path: Path) -> Start:
    """Start in this process."""
    watch = _Watch()
    stages = (
        (engine_module, "load_pipeline", "weights_s"),
        (engine_module, "_place", "weights_s"),
        (graphs, "open_packages", "packages_s"),
        (graphs.GraphedBlock, "_made", "packages_s"),
        (graphs.GraphedBlock, "_compare", "compared_s"),
    )

    def start() -> None:
        engine: Any = load_engine(profiles_file.read(path), SETTINGS)
        engine.warm_up()
        if not engine._graphs or not all(each.used for each in engine._graphs):
            raise RuntimeError("A worker would run without its packages.")

    with ExitStack() as stack:
        for owner, name, stage in stages:
            stack.enter_context(replaced(owner, name, watch.timed(stage)))
        watch.timed("clip_s")(start)()
    return Start(**watch.seconds)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Path(sys.argv[1])))))
