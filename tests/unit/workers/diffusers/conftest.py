"""Toy checkpoints, built once; tests get copies that they may damage."""

import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from skimage import data

from app.config import profiles_file
from tests.support import services
from workers.engines.base import RenderSpec


def _needed() -> bool:
    try:
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


if not _needed() and not os.environ.get("CI"):
    collect_ignore_glob = ["test_*.py"]

SETTINGS = SimpleNamespace(steps_of=lambda profile: profile.steps)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A function that returns the folder of a toy's checkpoint, built on first use."""
    services.need("transformers", _needed())
    torch.set_num_threads(1)  # toys gain nothing by two, and lose much next to other tests
    from tests.support.toys import TOYS

    folder = tmp_path_factory.mktemp("toys")
    return lambda name: _once(folder / name, lambda: TOYS[name].save(folder))


def _once(path: Path, make) -> Path:
    return path if path.exists() else make()


@pytest.fixture
def place(checkpoints, tmp_path):
    """Copy a toy's checkpoint into the test's directory; returns the toy."""
    from tests.support.toys import TOYS

    def place(name):
        shutil.copytree(checkpoints(name), tmp_path / name)
        return TOYS[name]

    return place


@pytest.fixture
def load(tmp_path):
    """Load the profile of a toy in the test's directory, as a worker does."""

    def load(toy, **changes):
        profile = profiles_file.read(toy.profile(tmp_path, **changes))
        from workers.engines.registry import load_engine

        return load_engine(profile, SETTINGS)

    return load


@pytest.fixture(scope="session")
def picture() -> bytes:
    out = io.BytesIO()
    Image.fromarray(data.coffee()[::4, ::4]).save(out, "PNG")  # 150 x 100
    return out.getvalue()


@pytest.fixture
def spec():
    """An order for 9 frames of the toy."""

    def spec(toy, **changes):
        given = {"prompt": "gentle waves" if "prompt" in toy.honours else "", "seed": 1}
        given |= {"frames": 9, "fps": 8, "size": 64, "steps": toy.steps}
        return RenderSpec(**given | changes)

    return spec


@pytest.fixture
def loaded(place, load):
    """The engine of a toy in one process, and the toy."""

    def loaded(name, **changes):
        toy = place(name)
        return load(toy, **changes), toy

    return loaded


@pytest.fixture
def grouped(load, monkeypatch):
    """Load a toy for a group; its followers end with the test."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    engines = []

    def grouped(toy, gpus, vae="leader", drop="", guidance="false", **changes):
        old = toy.table
        parallel = (
            f'parallel = {{ gpus = {gpus}, vae = "{vae}", guidance = {guidance} }}\nfirst_frame'
        )
        new = old.replace("first_frame", parallel).replace(drop, "")
        engines.append(load(toy, table=(old, new), **changes))
        return engines[-1]

    yield grouped
    for engine in engines:
        engine._leader.stop(patience_s=0.0)
