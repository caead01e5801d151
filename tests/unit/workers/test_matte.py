"""Mattes of real photos by the packaged model, its file, and pictures without a subject."""

import hashlib
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from skimage import data

from tests.support.services import ROOT
from workers.pipeline import matte_file
from workers.pipeline.alpha import refined, subject_in
from workers.pipeline.errors import MatteError
from workers.pipeline.matte import load_matte
from workers.pipeline.matte_file import PACKAGED, find_matte
from workers.pipeline.subjects import PICTURES, Recent, Subjects, digest


@pytest.fixture(scope="module")
def model():
    found = load_matte()
    if found is None:
        pytest.skip("the packaged matte model needs Python below 3.13")
    return found


@pytest.fixture(scope="module")
def subjects(model):
    return Subjects(model)


def photo(name):
    return np.ascontiguousarray(getattr(data, name)()[::2, ::2])


@pytest.mark.parametrize(
    ("name", "subject", "background"),
    [
        ("astronaut", (0.6, 0.45), (0.08, 0.6)),
        ("chelsea", (0.5, 0.5), (0.05, 0.03)),
        ("coffee", (0.5, 0.5), (0.05, 0.95)),
    ],
)
def test_the_subject_of_a_photo_is_found(subjects, name, subject, background):
    picture = photo(name)
    matte = subjects.find(picture)
    alpha = refined(matte, picture)
    height, width = picture.shape[:2]
    assert alpha.shape == (height, width) and alpha.min() >= 0 and alpha.max() <= 1
    assert alpha[int(subject[0] * height), int(subject[1] * width)] == 1
    assert alpha[int(background[0] * height), int(background[1] * width)] == 0
    assert 0.05 < (alpha > 0.5).mean() < 0.8
    mixed = ((alpha > 0.05) & (alpha < 0.95)).mean()
    assert mixed < 0.2, "most pixels belong to one or the other"


def text():
    page = Image.new("RGB", (400, 300), "white")
    for row in range(12):
        ImageDraw.Draw(page).text(
            (20, 20 + 22 * row), "What stands here is read, not cut.", "black"
        )
    return np.asarray(page)


def without_subject():
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    return {
        "noise": noise,
        "grey": np.full((120, 160, 3), 128, np.uint8),
        "black": np.zeros((120, 160, 3), np.uint8),
        "bricks": np.repeat(data.brick()[::2, ::2, None], 3, 2),
        "16 x 16": data.astronaut()[::32, ::32],
        "panorama": data.astronaut()[200:264],
        "one pixel": noise[:1, :1],
    }


@pytest.mark.parametrize("name", list(without_subject()))
def test_a_picture_without_a_clear_subject_has_none(subjects, name):
    assert subjects.find(np.ascontiguousarray(without_subject()[name])) is None


def test_a_matte_of_everything_or_of_nothing_is_none():
    for value in (0.0, 0.5, 1.0):
        assert subject_in(np.full((320, 320), value, np.float32), 400, 400) is None
    half = np.zeros((320, 320), np.float32)
    half[80:240, 80:240] = 1
    assert subject_in(half, 400, 400) is not None
    assert subject_in(half, 16, 16) is None and subject_in(half, 100, 800) is None
    half[:, :] = np.maximum(half, 0.5)
    assert subject_in(half, 400, 400) is None, "unsure of everything else"


def test_specks_belong_to_the_background():
    matte = np.zeros((320, 320), np.float32)
    matte[80:240, 80:240], matte[10:20, 10:20] = 1, 1
    cleaned = subject_in(matte, 320, 320)
    assert cleaned[100, 100] == 1 and not cleaned[:30, :30].any()


def test_the_same_picture_gives_the_same_matte(model):
    picture = photo("coffee")
    first, again = model(picture), load_matte()(picture)
    assert np.array_equal(first, again)


def test_a_picture_is_cut_out_once(model):
    calls = []

    def counted(picture):
        calls.append(picture)
        return model(picture)

    subjects = Subjects(counted)
    first, other = photo("coffee"), photo("chelsea")
    for picture in (first, first.copy(), other, first):
        subjects.start(picture).result()
    assert len(calls) == 2
    assert digest(first) != digest(other) != digest(other[:, ::-1])


def test_few_results_are_kept():
    recent, made = Recent(2), []
    for key in "abacab":
        recent.get(key, lambda key=key: made.append(key))
    assert made == ["a", "b", "c", "b"]
    assert PICTURES <= 16


def test_onnxruntime_uses_no_more_threads_than_torch(model):
    assert model._session.get_session_options().intra_op_num_threads == torch.get_num_threads()


def test_the_next_picture_takes_no_fresh_memory(model):
    """A page fault for every 4 KB of 250 MB cost a quarter of the time."""
    pictures = [np.full((64, 64, 3), grey, np.uint8) for grey in (50, 100, 150)]
    for picture in pictures[:2]:
        model(picture)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    model(pictures[2])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10_000


def test_a_model_that_may_be_large_keeps_no_memory(model, tmp_path):
    """IS-Net at 1024 pixels takes gigabytes for a picture."""
    file = tmp_path / "isnet.onnx"
    file.write_bytes(find_matte(PACKAGED).content)
    options = load_matte(str(file))._session.get_session_options()
    assert not options.enable_cpu_mem_arena and options.enable_mem_pattern


def test_without_a_model_nothing_has_a_subject():
    assert load_matte("none") is None
    assert Subjects(None).start(photo("coffee")).result() is None


def test_the_packaged_file_may_be_missing(monkeypatch):
    monkeypatch.setattr(matte_file, "_WHEEL", "a-wheel-that-nobody-installed")
    assert load_matte() is None


def test_a_file_with_another_digest_is_refused(model, tmp_path):
    file = tmp_path / "u2netp.onnx"
    file.write_bytes(find_matte(PACKAGED).content)
    assert load_matte(str(file)) is not None
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert load_matte(f"{file}#sha256={right}") is not None
    with file.open("r+b") as changed:
        changed.seek(1000)
        changed.write(b"\0")
    with pytest.raises(MatteError, match=r"^The matte model .+ is not the expected file: .+\.$"):
        load_matte(str(file))
    other = file.rename(tmp_path / "mine.onnx")
    with pytest.raises(MatteError, match="expected file"):
        load_matte(f"{other}#sha256={right}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/nowhere/u2net.onnx", "cannot be read"),
        ("no such model!", "neither a file"),
        ("a-model-of-nobody", "needs the package rembg|is not a model of rembg"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(name, says):
    with pytest.raises(MatteError, match=says):
        load_matte(name)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(MatteError, match="is not an ONNX model"):
        load_matte(str(tmp_path / "x.onnx"))
    assert PACKAGED == "u2netp"


def test_a_worker_with_a_wrong_matte_file_says_so_and_exits_with_78(tmp_path):
    file = tmp_path / "u2netp.onnx"
    file.write_bytes(b"another file")
    settings = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "REDIS_URL": "redis://127.0.0.1:1",
        "OBJECTS_URL": f"file://{tmp_path}",
        "SECRET_KEY": "a-secret-key-that-only-the-tests-ever-use",
        "MATTE_MODEL": str(file),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "workers.gpu"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 78, ended.stderr
    [sentence] = ended.stderr.splitlines()
    assert sentence == (
        f"workers.gpu: The matte model {file} is not the expected file: its SHA-256 differs."
    )
