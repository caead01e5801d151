"""A private Docker engine: its own sockets and images, and no change to the machine's firewall.

Debian's `dockerd`, as root. What it has built stays in the user's cache, so that the next run only
builds what changed.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import services

DAEMON = "/usr/sbin/dockerd"
CLIENT = "/usr/bin/docker"
BASE = "debian:bookworm-slim"  # the name that infra/docker/Dockerfile asks for
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# As the image of that name is made: no manuals, no translations.
LEFT_OUT = ("man", "info", "groff", "lintian", "linda", "locale", "doc")
RECIPE = (
    "--variant=minbase",
    "--include=ca-certificates,usr-is-merged",  # the second instead of usrmerge, which needs Perl
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    '--aptopt=Apt::Install-Recommends "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
)
BUILD_CACHE = {"builder": {"gc": {"enabled": True, "defaultKeepStorage": "8GB"}}}


def cache() -> Path:
    """The folder that keeps what is expensive to make again."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "stillmotion"


class Engine:
    """A running engine."""

    def __init__(self, socket: Path):
        self.env = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "1"}

    def run(self, *arguments: str | Path, check: bool = True, timeout_s: float = 900.0, **options):
        """Run `docker` with these arguments."""
        done = subprocess.run(
            [CLIENT, *map(str, arguments)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            **options,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"docker {' '.join(map(str, arguments))}:\n{done.stderr[-6000:]}")
        return done

    def inspect(self, name: str) -> dict:
        return json.loads(self.run("inspect", name).stdout)[0]

    def build(self, dockerfile: str, tag: str, *options: str) -> None:
        """Build an image from the repository. The build uses the network of this machine."""
        arguments = ["--network", "host", "-f", dockerfile, "-t", tag, *options, str(services.ROOT)]
        self.run("build", *arguments)

    def make_base(self) -> None:
        """Make the base image under its pinned name, unless it is there: no registry is asked."""
        made = f"base:{hashlib.sha256(' '.join(RECIPE).encode()).hexdigest()[:12]}"
        if self.run("images", "-q", made).stdout.strip():
            return
        with tempfile.TemporaryDirectory() as folder:
            tar, pip = Path(folder, "base.tar"), Path(folder, "pip.conf")
            pip.write_text(f"[global]\ncert = {CA_BUNDLE}\n")
            # A build inside trusts whom this machine trusts.
            hooks = [f"copy-in {pip} /etc", f"copy-in {CA_BUNDLE} {Path(CA_BUNDLE).parent}"]
            hooks = [f"--customize-hook={hook}" for hook in hooks]
            subprocess.run(
                ["mmdebstrap", *RECIPE, *hooks, "bookworm", tar], check=True, capture_output=True
            )
            self.run("import", tar, BASE)
            self.run("tag", BASE, made)


def missing() -> str:
    """A program that an engine needs and this machine lacks; "" if there is none."""
    return next((tool for tool in (DAEMON, CLIENT, "mmdebstrap") if not shutil.which(tool)), "")


class NoEngine(Exception):
    """No engine starts here: it needs root, and a kernel that allows containers."""


@contextmanager
def engine(log: Path) -> Iterator[Engine]:
    """Run an engine until the block ends. Two at once wait for each other.

    Raises NoEngine, with its last lines.
    """
    data = cache() / "engine"
    data.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="engine-") as folder,
        (data / "lock").open("w") as lock,
        log.open("ab") as out,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        config = Path(folder, "daemon.json")
        config.write_text(json.dumps(BUILD_CACHE))
        socket = Path(folder, "s")
        command: Sequence[str | Path] = [
            DAEMON,
            *("--config-file", config, "--data-root", data / "data", "--exec-root", f"{folder}/e"),
            *("--pidfile", f"{folder}/pid", "-H", f"unix://{socket}"),
            *("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"),
        ]
        started = Engine(socket)
        with services.process(list(command), stdout=out, stderr=out) as child:
            try:
                services.wait_until(lambda: started.run("info"), child, timeout_s=60)
            except (RuntimeError, TimeoutError) as error:
                raise NoEngine(f"{error}\n{log.read_text()[-2000:]}") from error
            yield started
            started.run("image", "prune", "-f", check=False)
