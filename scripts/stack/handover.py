"""Hands what root's stack has prepared over to the user that its processes run as."""

import compileall
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from scripts.stack.data import ROOT, DataDir
from scripts.stack.user import User, give, give_all, obstacle, server_user

CODE = ("app", "migrations", "stillmotion", "workers")  # what the processes run
PROVENANCE, HOME, READY, OBJECTS, REGIONS_FILE = (
    "provenance",
    "home",
    "ready",
    "objects",
    "regions.toml",
)
# Settings that name files of the person who started the stack.
PATHS = ("MODEL_DIR", "PROVENANCE_CERT", "PROVENANCE_KEY", "REGIONS_FILE")


def hand_over(data: DataDir, env: Mapping[str, str]) -> tuple[User | None, str]:
    """The user of our processes and, if root's have to stay root's, what keeps them from leaving.

    Gives that user the files that they need. Folders that we write to stay ours, so that nobody
    can put a link there.
    """
    user = server_user()
    if user is None:
        return None, ""
    own_objects = env["OBJECTS_URL"] == (data.path / OBJECTS).as_uri()
    problem = obstacle(user, env, reads=_reads(data, env), writes=_writes(env, own_objects))
    if problem:
        user = None
    else:  # they cannot keep what they compile
        for name in CODE:
            compileall.compile_dir(ROOT / name, quiet=2)
    provenance = data.folder(PROVENANCE)
    provenance.chmod(0o711)
    for path in (data.path / REGIONS_FILE, *provenance.iterdir()):
        give(path, user)
    for name in (READY, HOME, *([OBJECTS] if own_objects else [])):
        give_all(data.folder(name), user)
    return user, problem


def _reads(data: DataDir, env: Mapping[str, str]) -> list[Path]:
    named = (Path(env[name]) for name in PATHS if env.get(name))
    given = [path for path in named if not path.is_relative_to(data.path)]
    return [*(ROOT / name for name in CODE), *given]


def _writes(env: Mapping[str, str], own_objects: bool) -> list[Path]:
    folders = [Path(env.get("TMPDIR") or "/tmp")]
    if env["OBJECTS_URL"].startswith("file://") and not own_objects:
        folders.append(Path(url2pathname(urlsplit(env["OBJECTS_URL"]).path)))
    return folders
