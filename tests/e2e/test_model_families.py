"""Every family of models through the whole service, from a folder and a TOML file alone."""

import io
import itertools
import time

import av
import httpx
import pytest

from tests.support import services
from tests.support.fleet import fleet as make_fleet

pytest.importorskip("transformers")
from tests.support.toys import TOYS

pytestmark = pytest.mark.timeout(600)

AT_A_TIME = 2  # workers: most of their time is the import of the libraries
QUICK = ("wan22", "svd")
PATIENCE_S = 200.0  # for a machine that does a dozen other things


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A directory of profiles and checkpoints, as an operator has it."""
    folder = tmp_path_factory.mktemp("models")
    for toy in TOYS.values():
        toy.profile(folder)
    return folder


def save(models, name):
    if not (models / name).exists():
        TOYS[name].save(models)


@pytest.fixture
def service(change, store, tmp_path, models):
    """The API and a dispatcher; yields a client's options and the fleet for workers."""
    config = change(
        public_url=f"http://127.0.0.1:{services.free_port()}",
        model_profiles=models,
        served_profiles=("noop", *TOYS),
    )
    with services.gunicorn(config) as url, make_fleet(config, store, tmp_path) as fleet:
        fleet.dispatcher()
        yield url, fleet


def serve(service, api_key, names, photo):
    """Start a worker for each, submit, and return the finished jobs with their clips."""
    url, fleet = service
    headers = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        waiting = {}
        for name in names:
            given = {"model": name, "seed": "1", "frames": "9"}
            if "prompt" in TOYS[name].honours:
                given["prompt"] = "gentle waves"
            sent = client.post("/v1/jobs", files={"image": ("a.jpg", photo)}, data=given)
            assert sent.status_code == 202, sent.text
            waiting[name] = sent.json()["urls"]["self"]
        for name in names:
            save(fleet.settings.model_profiles, name)
        workers = [fleet.worker(model_profile=name) for name in names]
        deadline = time.monotonic() + PATIENCE_S
        jobs = {}
        while waiting:
            assert time.monotonic() < deadline, [worker.log[-3:] for worker in workers]
            for name, path in list(waiting.items()):
                job = client.get(path).json()
                if job["terminal"]:
                    jobs[name] = job
                    del waiting[name]
            time.sleep(0.05)
        for worker in workers:
            worker.kill()
        clips = {
            name: client.get(job["urls"]["video"], follow_redirects=True).content
            for name, job in jobs.items()
            if job["state"] == "succeeded"
        }
    return jobs, clips


def assert_served(service, api_key, names, photo):
    jobs, clips = serve(service, api_key, names, photo)
    for name in names:
        job = jobs[name]
        assert job["state"] == "succeeded", job["error"]
        assert job["progress"] == {"step": TOYS[name].steps, "steps": TOYS[name].steps}
        with av.open(io.BytesIO(clips[name])) as clip:
            stream = clip.streams.video[0]
            assert stream.frames == 9 and (stream.width, stream.height) == (64, 64)


@pytest.mark.slow
def test_two_families_from_submit_to_mp4(service, api_key, photo):
    assert_served(service, api_key, QUICK, photo)


@pytest.mark.slow
def test_all_families_from_submit_to_mp4_in_a_minute(service, api_key, photo):
    start = time.monotonic()
    names = iter(TOYS)
    while batch := tuple(itertools.islice(names, AT_A_TIME)):
        assert_served(service, api_key, batch, photo)
    took_s = time.monotonic() - start
    print(f"chain_s_all_families={took_s:.1f} for {len(TOYS)}")
    assert took_s < 3 * 60  # a minute on two idle cores


def test_models_show_what_they_serve_and_the_rest_is_refused(service, api_key, photo):
    url, _ = service
    headers = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        models = {each["id"]: each for each in client.get("/v1/models").json()["data"]}
        assert models["noop"]["sizes"] is None and models["noop"]["frames"]["multiple"] == 1
        wan, svd = models["wan22"], models["svd"]
        assert wan["sizes"] == [{"width": 64, "height": 64}, {"width": 96, "height": 64}]
        assert (wan["frames"]["multiple"], wan["frames"]["plus"]) == (4, 1)
        assert (wan["options"], svd["options"]) == (["prompt", "loop"], ["motion"])

        assert models["wan22-ti2v"]["options"] == ["prompt", "negative_prompt"]

        def refused(model, **given):
            sent = client.post(
                "/v1/jobs",
                files={"image": ("a.jpg", photo)},
                data={"model": model} | {name: str(value) for name, value in given.items()},
            )
            assert sent.status_code == 422, sent.text
            return {each["pointer"]: each["detail"] for each in sent.json()["errors"]}

        assert refused("wan22", frames=10, size=80, fps=24, motion=1.5) == {
            "/frames": "frames: wan22 takes 5 to 25 in steps of 4; the nearest are 9 and 13.",
            "/fps": "fps: wan22 takes 8.",
            "/size": "size: wan22 takes 64 or 96.",
            "/motion": "motion: wan22 takes only 1.",
        }
        assert refused("svd", prompt="waves", loop="true") == {
            "/prompt": "prompt: svd takes no prompt.",
            "/loop": "loop: svd takes only false.",
        }
        sentence = "negative_prompt: wan22 takes no negative prompt; it takes prompt and loop."
        assert refused("wan22", negative_prompt="blurry") == {"/negative_prompt": sentence}
        assert "/negative_prompt" in refused("wan22-ti2v", negative_prompt="x" * 1001)
        sent = client.post(
            "/v1/jobs",
            files={"image": ("a.jpg", photo)},
            data={"model": "wan22-ti2v", "negative_prompt": "blurry"},
        )
        assert sent.status_code == 202 and sent.json()["negative_prompt"] == "blurry"
        assert client.get(sent.json()["urls"]["self"]).json()["negative_prompt"] == "blurry"
