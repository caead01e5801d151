"""Create or update the virtual environment, once for each set of requirements.

    python -I scripts/_env.py worker,stack

Prints the path of its interpreter. A stamp in the environment holds a hash of the requirements it
was filled from, so that later runs skip pip. Two runs at once wait for each other on a lock. The
environment is `.venv` in the repository. In a read-only repository it is a folder in the user's
cache that holds the requirements alone.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import IO, Self, TypedDict

ROOT = Path(__file__).resolve().parent.parent
EX_UNAVAILABLE, EX_INTERRUPTED = 69, 130
REDRAW_S = 0.2  # on a terminal
LINE_S = 10.0  # elsewhere: a line this often


class Stamp(TypedDict):
    """What an environment was filled from: the hash of the requirements, and the extras."""

    hash: str
    extras: list[str]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Progress:
    """Shows `phase` and the seconds since the start on stderr while the block runs.

    On a terminal one line is rewritten. Elsewhere a line appears every LINE_S seconds.
    """

    def __init__(self) -> None:
        self.phase = ""
        self._started = time.monotonic()
        self._rewrites = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._rewrites:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _run(self) -> None:
        while not self._ended.wait(REDRAW_S if self._rewrites else LINE_S):
            line = f"[{self.elapsed_s:4.0f} s] {self.phase}"
            if self._rewrites:
                line = line[: shutil.get_terminal_size().columns - 1]  # a wrapped line would stay
                print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
            else:
                say(line)


class PipLog:
    """Turns pip's output into phases, and keeps what it wrote to stderr."""

    def __init__(self, progress: Progress) -> None:
        self.errors: list[str] = []
        self._progress = progress
        self._packages = 0

    def read_output(self, stream: IO[str]) -> None:
        for line in stream:
            if phase := self._phase_of(line.strip()):
                self._progress.phase = phase

    def read_errors(self, stream: IO[str]) -> None:
        for line in stream:
            self.errors.append(line)
            if "Retrying (" in line:
                self._progress.phase = "the package index does not answer; trying again"

    def _phase_of(self, line: str) -> str | None:
        """What pip is doing, from a line of its output; None if the line does not say."""
        first, _, rest = line.partition(" ")
        match first:
            case "Collecting" | "Processing" | "Requirement":  # each package has one of these
                self._packages += 1
                name = re.split(r" \(| in |;", rest.removeprefix("already satisfied: "))[0]
                return f"resolving package {self._packages}: {package_name(name)}"
            case "Downloading" if ".metadata" not in rest:
                name, _, size = rest.rpartition("/")[2].partition(" ")
                return f"downloading package {self._packages}: {package_name(name)} {size}"
            case "Building" | "Preparing":
                return f"preparing: {re.split(r' [(]|:', rest)[0]}"
            case "Installing" if rest.startswith("collected packages: "):
                return f"installing {rest.count(',') + 1} packages"
        return None


def package_name(name: str) -> str:
    """Name and version from a wheel's path; a requirement as it is."""
    wheel = re.match(r"(?:.*/)?([\w.]+)-([\w.!+]+)-.*\.whl", name)
    return " ".join(wheel.groups()) if wheel else name


def choose_home() -> Path:
    """The environment's folder."""
    usual = ROOT / ".venv"
    if os.access(usual if usual.exists() else ROOT, os.W_OK):
        return usual
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "stillmotion" / hashlib.sha256(bytes(ROOT)).hexdigest()[:12] / "venv"


def requirements_hash() -> str:
    files = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def satisfied(home: Path, extras: set[str], wanted: str) -> bool:
    """Whether an environment has these extras, for this state of the requirements."""
    stamp = read_stamp(home)
    return stamp["hash"] == wanted and extras <= set(stamp["extras"]) and works(home)


def read_stamp(home: Path) -> Stamp:
    try:
        stamp: Stamp = json.loads((home / "stillmotion-stamp.json").read_text())
    except (OSError, ValueError):
        return {"hash": "", "extras": []}
    return stamp


def works(home: Path) -> bool:
    """Whether the environment's Python runs and has a supported version.

    It stops running when the Python it was made from is removed.
    """
    check = "import pip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))"
    try:
        done = subprocess.run([home / "bin/python", "-c", check], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def install(home: Path, extras: set[str], wanted: str) -> None:
    """Fill the environment. Raises CalledProcessError with pip's message in `stderr`."""
    stamp = read_stamp(home)
    if stamp["hash"] == wanted:
        extras = extras | set(stamp["extras"])  # the stamp covers everything that is installed
    say(f"Installing into {home}; the first time takes some minutes ...")
    with Progress() as progress:
        if not works(home):
            progress.phase = "creating the virtual environment"
            venv.create(home, clear=True, with_pip=True)
        (home / "stillmotion-stamp.json").unlink(missing_ok=True)
        run_pip(home, targets(home, extras), progress)
    filled: Stamp = {"hash": wanted, "extras": sorted(extras)}
    (home / "stillmotion-stamp.json").write_text(json.dumps(filled))
    say(f"Installed in {progress.elapsed_s:.0f} s.")


def run_pip(home: Path, requirements: list[str], progress: Progress) -> None:
    progress.phase = "starting pip"
    argv: list[str | Path] = [home / "bin/python", "-m", "pip", "install"]
    argv += ["--disable-pip-version-check", "-c", ROOT / "constraints.txt", *requirements]
    log = PipLog(progress)
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as pip:
        assert pip.stdout is not None and pip.stderr is not None
        reader = Thread(target=log.read_errors, args=(pip.stderr,), daemon=True)
        reader.start()
        log.read_output(pip.stdout)
        reader.join()
    if pip.returncode != 0:
        raise subprocess.CalledProcessError(pip.returncode, argv, stderr="".join(log.errors))


def targets(home: Path, extras: set[str]) -> list[str]:
    """What pip installs: the project in place, or its requirements if it is read-only."""
    if home == ROOT / ".venv":
        return ["-e", f"{ROOT}[{','.join(sorted(extras))}]"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(each for name in sorted(extras) for each in optional[name])]


def lock(folder: Path) -> None:
    """Hold the lock on a folder until this process ends."""
    fd = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    say("Waiting for another run that is installing ...")
    with Progress() as progress:
        progress.phase = "waiting for another run that is installing"
        fcntl.flock(fd, fcntl.LOCK_EX)


def message_of(error: subprocess.CalledProcessError) -> str:
    """What the failed command said: pip on stderr; ensurepip, run by venv, on either, as bytes."""
    message: str | bytes = error.stderr or error.output or ""
    return message.decode(errors="replace") if isinstance(message, bytes) else message


def main() -> int:
    extras = set(sys.argv[1].split(","))
    home = choose_home()
    try:
        wanted = requirements_hash()
        if satisfied(ROOT / ".venv", extras, wanted):
            home = ROOT / ".venv"
        else:
            home.parent.mkdir(parents=True, exist_ok=True)
            lock(home.parent)
            if not satisfied(home, extras, wanted):  # another run may just have done it
                install(home, extras, wanted)
    except subprocess.CalledProcessError as error:
        say(message_of(error).rstrip())
        say(f"The installation into {home} failed (exit status {error.returncode}).")
        return EX_UNAVAILABLE
    except OSError as error:
        say(f"The virtual environment {home} cannot be created: {error}.")
        return EX_UNAVAILABLE
    except KeyboardInterrupt:
        say("Stopped.")
        return EX_INTERRUPTED
    print(home / "bin/python")
    return 0


if __name__ == "__main__":
    sys.exit(main())
