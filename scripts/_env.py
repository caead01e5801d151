"""Create or update the virtual environment, once for each set of requirements.

    python -I scripts/_env.py worker,stack

Prints the path of its interpreter. A stamp in the environment holds a hash of what was installed,
so that later runs skip pip. A lock lets two runs at once wait for each other. The environment is
`.venv` in the repository, or, where the repository cannot be written, one in the user's cache with
the requirements alone.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EX_UNAVAILABLE = 69


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def place() -> Path:
    """Where the environment is to be."""
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


def read_stamp(home: Path) -> dict:
    try:
        return json.loads((home / "stillmotion-stamp.json").read_text())
    except (OSError, ValueError):
        return {"hash": "", "extras": []}


def works(home: Path) -> bool:
    """Whether the environment's interpreter runs (not once its base was removed) and is ours."""
    check = "import pip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))"
    try:
        done = subprocess.run([home / "bin/python", "-c", check], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def install(home: Path, extras: set[str], wanted: str) -> None:
    """Fill the environment. Raises CalledProcessError with pip's own message on stderr."""
    stamp = read_stamp(home)
    if stamp["hash"] == wanted:
        extras = extras | set(stamp["extras"])  # the stamp speaks of all that is there
    say(f"Installing into {home}; the first time takes some minutes ...")
    if not works(home):
        venv.create(home, clear=True, with_pip=True)
    (home / "stillmotion-stamp.json").unlink(missing_ok=True)
    subprocess.run(
        [
            *(home / "bin/python", "-m", "pip", "install", "--quiet"),
            "--disable-pip-version-check",
            *("-c", ROOT / "constraints.txt", *targets(home, extras)),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    (home / "stillmotion-stamp.json").write_text(
        json.dumps({"hash": wanted, "extras": sorted(extras)})
    )


def targets(home: Path, extras: set[str]) -> list[str]:
    """What pip is to install: the project in place, or its requirements if it is read-only."""
    if home == ROOT / ".venv":
        return ["-e", f"{ROOT}[{','.join(sorted(extras))}]"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(each for name in sorted(extras) for each in optional[name])]


def main() -> int:
    extras = set(sys.argv[1].split(","))
    home = place()
    try:
        wanted = requirements_hash()
        if satisfied(ROOT / ".venv", extras, wanted):
            home = ROOT / ".venv"
        else:
            home.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(home.parent, os.O_RDONLY)  # a folder can be locked; freed at exit
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not satisfied(home, extras, wanted):  # another run may just have done it
                install(home, extras, wanted)
    except subprocess.CalledProcessError as error:
        say(f"The installation failed (pip's exit status {error.returncode}).")
        return EX_UNAVAILABLE
    except OSError as error:
        say(f"The virtual environment {home} cannot be made: {error}.")
        return EX_UNAVAILABLE
    print(home / "bin/python")
    return 0


if __name__ == "__main__":
    sys.exit(main())
