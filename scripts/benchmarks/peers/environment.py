"""Virtual environments for the peers, whose requirements conflict with ours or are not ours."""

import subprocess
import sys
import venv
from pathlib import Path

# Where ours uses the same library, the same version: only what differs is compared.
WEB = ("flask==3.1.3", "gunicorn==27.0.1", "pillow==12.3.0", "psycopg[binary]==3.3.9")
REQUIREMENTS = {
    "procrastinate": ("procrastinate==3.10.0", "psycopg-pool==3.3.3", *WEB),
    "plain": ("celery[redis]==5.7.0", "redis==8.1.0", "psycopg-pool==3.3.3", *WEB),
    "bentoml": ("bentoml==1.4.40",),
    "ray": ("ray[serve]==2.60.0", "celery[redis]==5.7.0", "python-multipart==0.0.34"),
}
INSTALL_S = 900.0
STAMP = "requirements.txt"  # written last; lists the environment's contents


class PeerUnavailable(Exception):
    """A peer cannot be measured here. The message says why in one sentence."""


def interpreter(name: str, folder: Path) -> Path:
    """The Python of a peer's environment in `folder`, recreated when REQUIREMENTS change.

    Raises PeerUnavailable if it cannot be created.
    """
    home = folder / name
    python, stamp = home / "bin/python", home / STAMP
    wanted = "\n".join(REQUIREMENTS[name]) + "\n"
    try:
        if stamp.is_file() and stamp.read_text() == wanted and python.exists():
            return python
        names = " ".join(REQUIREMENTS[name])
        print(f"Installing {names} into {home}; takes a few minutes, once ...", file=sys.stderr)
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
        raise PeerUnavailable(f"{home} could not be set up: {error}.") from None
    except OSError as error:
        raise PeerUnavailable(f"{home} cannot be created: {error}.") from None
    return python
