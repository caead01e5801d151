"""The user as whom the stack's processes run, if root started it."""

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from scripts.stack.errors import StackError

User = tuple[int, int]  # uid, gid

# What our own processes import; the rest of the installation was made by the same pip.
PACKAGES = ("celery", "flask", "psycopg", "sqlalchemy")
# Prints the first thing that this user cannot use, or nothing.
LOOK = """
import importlib.util, os, sys
library, count, *paths = sys.argv[1:]
if os.__file__ != library:  # without its own it takes the one of another installation
    sys.exit(f"read {library}")
packages, paths = paths[:int(count)], paths[int(count):]
for name in packages:
    try:
        spec = importlib.util.find_spec(name)
        open(spec.origin, "rb").close()
    except (AttributeError, OSError):
        sys.exit(f"read the package {name}")
for path in paths:
    kind, _, path = path.partition(":")
    if kind == "write":
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            sys.exit(f"write {path}")
        continue
    for folder, _, files in os.walk(path, onerror=lambda error: sys.exit(f"read {error.filename}")):
        for name in files:
            if not os.access(f"{folder}/{name}", os.R_OK) and not name.endswith(".pyc"):
                sys.exit(f"read {folder}/{name}")
    if not os.access(path, os.R_OK):
        sys.exit(f"read {path}")
"""


class Identity(TypedDict, total=False):
    """subprocess options that run a command as another user."""

    user: int
    group: int
    extra_groups: list[int]


def identity(user: User | None) -> Identity:
    return {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}


def server_user() -> User | None:
    """The user nobody if we are root, which Postgres refuses; else None. Raises StackError."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise StackError(
            "Postgres refuses to run as root, and the user 'nobody' does not exist."
        ) from None
    return entry.pw_uid, entry.pw_gid


def works_as(user: User | None, argv: Sequence[str | Path]) -> bool:
    """Whether a command succeeds as that user. Trying beats reading mode bits and ACLs."""
    try:
        done = subprocess.run(
            argv,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            **identity(user),
        )
    except OSError:
        return False
    return done.returncode == 0


def obstacle(
    user: User, env: Mapping[str, str], *, reads: Iterable[Path], writes: Iterable[Path]
) -> str:
    """What keeps our processes from running as that user, or "".

    `reads`: files, and folders with everything in them. `writes`: folders.
    """
    paths = [*(f"read:{path}" for path in reads), *(f"write:{path}" for path in writes)]
    argv = [sys.executable, "-P", "-c", LOOK, os.__file__, str(len(PACKAGES)), *PACKAGES, *paths]
    try:
        done = subprocess.run(
            argv,
            cwd="/",
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            **identity(user),
        )
    except OSError:
        return f"run {sys.executable}"
    if done.returncode == 0:
        return ""
    said = done.stderr.strip()
    return said if said.startswith(("read ", "write ")) else f"run {sys.executable}"


def give(path: Path, user: User | None) -> Path:
    """Give a file or folder to that user and close it to everyone else. None: it stays ours."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    if user is not None:
        os.chown(path, *user)
    return path


def put(path: Path, text: str, user: User | None) -> None:
    """Write a file that only that user may read, in a folder that may be theirs.

    They may have put a link there; a file made elsewhere and renamed does not follow it.
    """
    fd, draft = tempfile.mkstemp(dir=path.parent.parent)  # mode 0600
    with os.fdopen(fd, "w") as file:
        file.write(text)
    give(Path(draft), user).replace(path)


def give_all(folder: Path, user: User | None) -> None:
    """Give a folder and everything in it to that user, or to us.

    Whoever owns the folder owns the rest, so nothing is done if it is theirs already.
    """
    owner = user or (os.geteuid(), os.getegid())
    if folder.stat().st_uid == owner[0]:
        return
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(base, name), *owner, follow_symlinks=False)
    os.chown(folder, *owner)  # last: it says that all of them are done
