"""Every command of the guide for public models works as it stands, on a checkpoint of toy size."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support import documents, services
from tests.support.documents import Place
from tests.support.fleet import fleet as make_fleet

pytest.importorskip("transformers")
from tests.support.toys import TOYS

GUIDE = "docs/guides/models.md"
NAME = "wan2.2-ti2v-5b"  # the guide's example
BLOCKS = documents.blocks(GUIDE)
NOT_RUN = {Place(GUIDE, "Set it up", 0): "needs a package index"}
RUN = set()


def block(heading, number=0):
    place = Place(GUIDE, heading, number)
    RUN.add(place)
    return BLOCKS[place]


COPY, LOOK, WARM = (block("Set it up", number) for number in (1, 2, 3))
GRAPHS, COMPILE = (block("Compiled packages", number) for number in (0, 1))
WORKER, API, ANIMATE = (block("Serve it", number) for number in range(3))
OWN_PROJECT, OWN_ENGINE, OWN_PROFILE = (block("An engine of your own", n) for n in range(3))


def test_every_block_is_run_or_has_a_reason_not_to_be():
    assert RUN.isdisjoint(NOT_RUN)
    assert sorted(BLOCKS) == sorted({*RUN, *NOT_RUN})


@pytest.fixture
def clone(tmp_path) -> Path:
    """A directory that looks like the clone; what commands write stays out of the real one."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("app", "stillmotion", "workers", "migrations"):
        (folder / name).symlink_to(services.ROOT / name)
    return folder


def shell(commands, clone, timeout_s=170, **environment):
    """Run commands as an operator does, in the clone's environment."""
    bin_folder = Path(sys.executable).parent
    own = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-euc", commands],
        cwd=clone,
        env=os.environ | own | environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def as_toy(clone, **changes):
    """Put a toy in the place of the downloaded folder, and its sizes into the profile."""
    models = clone / "models"
    template = (models / f"{NAME}.toml").read_text()
    assert 'pipeline = "WanImageToVideoPipeline"' in template
    toy = TOYS["wan22-ti2v"]
    toy.save(models)
    written = toy.profile(models, name=NAME, max_frames=121, **changes)
    assert written == models / f"{NAME}.toml"
    return written


@pytest.mark.slow
def test_from_a_folder_to_a_checked_model(clone):
    copied = shell(COPY, clone)
    assert copied.returncode == 0, copied.stderr
    missing = shell(LOOK, clone)
    assert "missing" in missing.stdout and missing.returncode == 78
    assert missing.stderr == (
        f"workers.models: {NAME}: there is no folder models/Wan2.2-TI2V-5B-Diffusers.\n"
    )
    profile = as_toy(clone)
    found = shell(LOOK, clone)
    assert found.returncode == 0, found.stderr
    assert f"{NAME}        diffusers  0.0 GiB  Apache-2.0" in found.stdout
    sums = found.stdout[found.stdout.index("[diffusers.sha256]") :]
    assert sums.count("= ") == 3
    with profile.open("a") as file:  # as the guide says
        file.write("\n" + sums)
    # A first frame that is the picture needs a VAE that has been trained.
    done = shell(WARM, clone, MODEL_PROFILES="models")  # exported above
    assert f"{NAME}: loaded in" in done.stdout
    assert "FAIL  64x64, 9 frames: first frame" in done.stdout
    assert "ok    the same seed, again: the same clip" in done.stdout
    assert "ok    another prompt: another clip" in done.stdout
    assert "The thresholds are uncalibrated" in done.stdout
    assert done.returncode == 1, done.stderr
    weights = clone / "models/wan22-ti2v/vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    refused = shell(WARM, clone, MODEL_PROFILES="models")
    assert refused.returncode == 78
    assert "is not the file of the profile: its SHA-256 differs" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_packages_are_compiled_and_used(clone):
    shell(COPY, clone)
    as_toy(clone, sizes=["64x64"], table=("first_frame", f"{GRAPHS}first_frame"))
    given = {"MODEL_PROFILES": "models", "TORCHINDUCTOR_CACHE_DIR": str(clone / "cache")}
    done = shell(COMPILE, clone, timeout_s=500, **given)
    assert done.returncode == 0, done.stderr
    built, folder, warm = done.stdout.splitlines()[-3:]
    assert built.startswith("transformer: WanTransformerBlock for 1x")
    assert folder == f"models/{NAME}.packages"
    assert {each.name for each in (clone / folder).iterdir()} == {"0.pt2", "packages.json"}
    assert warm.startswith(f"{NAME}: loaded in")
    assert "model_graph_refused" not in done.stdout + done.stderr
    (clone / folder / "0.pt2").unlink()
    without = shell(COMPILE.splitlines()[1], clone, **given, CXX="no-such-compiler")
    assert without.returncode == 0 and "model_graph_refused" in without.stdout + without.stderr


@pytest.mark.slow
def test_the_model_is_served(clone, change, store, api_key, photo, tmp_path):
    shell(COPY, clone)
    as_toy(clone)
    (clone / "photo.jpg").write_bytes(photo)
    config = change(public_url=f"http://127.0.0.1:{services.free_port()}")
    port = config.public_url.rpartition(":")[2]
    given = services.environment(config)
    given = {name: given[name] for name in given if name not in ("MODEL_PROFILES",)}
    processes = []

    def start(commands, **more):
        environment = given | {"OMP_NUM_THREADS": "1"} | more
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (tmp_path / f"{len(processes)}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    ["bash", "-euc", commands],
                    cwd=clone,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    try:
        with make_fleet(config, store, tmp_path) as fleet:
            fleet.dispatcher(
                model_profiles=clone / "models", served_profiles=("motion-small", NAME)
            )
            start(WORKER)
            start(API, GUNICORN_CMD_ARGS=f"-b 127.0.0.1:{port}")
            url = config.public_url
            services.wait_until(lambda: httpx.get(f"{url}/healthz").is_success, timeout_s=90)
            key = {"STILLMOTION_SERVER": url, "STILLMOTION_API_KEY": api_key}
            models = httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {api_key}"})
            assert [each["id"] for each in models.json()["data"]] == ["motion-small", NAME]
            made = shell(ANIMATE, clone, **key)
            assert made.returncode == 0, made.stderr
            assert (clone / made.stdout.strip()).read_bytes()[4:8] == b"ftyp"
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            process.wait(timeout=30)


@pytest.fixture
def slideshow(tmp_path):
    """The guide's package, installed, and its profile; yields what a worker needs to use both."""
    site, models = tmp_path / "site", tmp_path / "models"
    info = site / "slideshow-1.0.dist-info"
    info.mkdir(parents=True)
    models.mkdir()
    (site / "slideshow.py").write_text(OWN_ENGINE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slideshow\nVersion: 1.0\n")
    group = '"stillmotion.engines"]\nslideshow = "slideshow:load"\n'
    assert group in OWN_PROJECT
    (info / "entry_points.txt").write_text("[stillmotion.engines]\nslideshow = slideshow:load\n")
    (models / "slideshow.toml").write_text(OWN_PROFILE)
    return site, models


def test_an_engine_of_ones_own_serves_jobs(slideshow, change, store, tmp_path, photo, monkeypatch):
    site, models = slideshow
    assert len(OWN_ENGINE.splitlines()) <= 42
    monkeypatch.setenv("PYTHONPATH", str(site))
    config = change(model_profiles=models, served_profiles=("slideshow",))
    with make_fleet(config, store, tmp_path) as fleet:
        fleet.dispatcher()
        fleet.objects.put("inputs/1.jpg", photo, "image/jpeg")
        fleet.worker(model_profile="slideshow").wait_ready()
        job = fleet.submit(
            profile="slideshow", input_key="inputs/1.jpg", frames=8, fps=8, size=64, steps=1
        )
        done = fleet.wait(job, "succeeded", "failed")
        assert done.state == "succeeded", done
        assert fleet.objects.get(done.output_key)[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ("", "names an unknown engine, 'slideshow'"),
        ("[stillmotion.engines]\nslideshow = slideshow:missing\n", "slideshow"),
        ("[stillmotion.engines]\nslideshow = no_such_module:load\n", "cannot be imported"),
    ],
)
def test_an_engine_that_cannot_be_used_is_one_sentence(
    slideshow, change, monkeypatch, points, sentence
):
    site, models = slideshow
    (site / "slideshow-1.0.dist-info/entry_points.txt").write_text(points)
    config = change(model_profiles=models, model_profile="slideshow")
    done = subprocess.run(
        [sys.executable, "-m", "workers.gpu"],
        cwd=services.ROOT,
        env=services.environment(config) | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 78, done.stderr
    assert done.stderr.startswith("workers.gpu: ") and done.stderr.count("\n") == 1
    assert sentence in done.stderr
