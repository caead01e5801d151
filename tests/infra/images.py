"""Builds the images from a base and wheels that this machine has, since no registry is asked."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.support.engine import Engine
from tests.support.services import ROOT

TARGETS = ("api", "dispatcher", "cpu", "gpu", "flower")
TAG = "tested"
STANDINS = "standins:local"


def name_of(target: str) -> str:
    return f"stillmotion/{target}:{TAG}"


def build(engine: Engine) -> None:
    """Build every image, and the stand-ins for other people's."""
    engine.make_base()
    options = dict.fromkeys(TARGETS, ()) | {"gpu": _torch_for_processors(engine)}
    for target in TARGETS:
        engine.build(
            "infra/docker/Dockerfile", name_of(target), "--target", target, *options[target]
        )
    engine.build("tests/infra/standins/Dockerfile", STANDINS)


def _torch_for_processors(engine: Engine) -> tuple[str, ...]:
    """Options for the build of torch without CUDA, if pip's own wheels on this machine have it."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    [pin] = [line for line in lines if line.startswith("torch==")]
    version = pin.removeprefix("torch==")
    for folder in _wheel_folders():
        for wheel in folder.glob(f"torch-{version}+cpu-cp311-*_{os.uname().machine}.whl"):
            tag = f"wheels:torch-{version}"
            if not engine.run("images", "-q", tag).stdout.strip():
                _import_file(engine, wheel, tag)
            return ("--build-arg", f"WHEELS={tag}", "--build-arg", f"TORCH={pin}+cpu")
    return ()


def _wheel_folders() -> list[Path]:
    asked = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    configured = subprocess.run(asked, capture_output=True, text=True).stdout.split()
    named = [*configured, *os.environ.get("PIP_FIND_LINKS", "").split()]
    return [Path(name) for name in named if Path(name).is_dir()]


def _import_file(engine: Engine, path: Path, tag: str) -> None:
    tar_path = Path(engine.env["DOCKER_HOST"].removeprefix("unix://")).with_name("wheel.tar")
    with tarfile.open(tar_path, "w") as tar:
        tar.add(path, path.name)
    engine.run("import", tar_path, tag)
    tar_path.unlink()
