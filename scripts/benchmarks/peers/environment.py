"""Virtual environments of the peers, whose requirements would not go with ours."""

import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = {
    "bentoml": ("bentoml==1.4.40",),
    "ray": ("ray[serve]==2.60.0", "celery[redis]==5.7.0", "python-multipart==0.0.34"),
}
INSTALL_S = 900.0
STAMP = "requirements.txt"  # written last: says what the environment holds


class PeerUnavailable(Exception):
    """A peer cannot be measured here; the message is one sentence that says why."""


def interpreter(name: str, folder: Path) -> Path:
    """The Python of a peer's environment in `folder`, made once for each state of REQUIREMENTS.

    Raises PeerUnavailable if it cannot be made.
    """
    home = folder / name
    python, stamp = home / "bin/python", home / STAMP
    wanted = "\n".join(REQUIREMENTS[name]) + "\n"
    try:
        if stamp.is_file() and stamp.read_text() == wanted and python.exists():
            return python
        names = " ".join(REQUIREMENTS[name])
        print(f"Installing {names} into {home}; takes some minutes, once ...", file=sys.stderr)
        venv.create(home, clear=True, with_pip=True)
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        done = subprocess.run(
            [*pip, *REQUIREMENTS[name]],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
            timeout=INSTALL_S,
        )
        if done.returncode != 0:
            line = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise PeerUnavailable(f"pip could not install {names}: {line}.")
        stamp.write_text(wanted)
    except subprocess.SubprocessError as error:  # venv's own pip, or the time limit
        raise PeerUnavailable(f"{home} could not be filled: {error}.") from None
    except OSError as error:
        raise PeerUnavailable(f"{home} cannot be made: {error}.") from None
    return python
