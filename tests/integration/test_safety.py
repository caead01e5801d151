"""The content check: an operator's entry point that sees prompt, picture and frames."""

import io
import os

import pytest

from app import safety
from app.api.application import create_app
from app.config.settings import ConfigError
from tests.support import calls, services
from tests.support.fleet import fleet as make_fleet

PLUGIN = '''
class Check:
    """Rejects what carries a marker of the tests."""

    def prompt(self, text):
        if text == "break":
            raise RuntimeError("the check is broken")
        return "a bad word" if "forbidden" in text else None

    def picture(self, jpeg):
        assert jpeg.startswith(b"\\xff\\xd8")
        return None

    def frames(self, frames):
        shapes = {frame.shape for frame in frames}
        assert shapes and all(len(shape) == 3 for shape in shapes)
        return "a bad frame"


class BadPicture(Check):
    def picture(self, jpeg):
        return "a bad picture"


class Broken:
    def __init__(self):
        raise ValueError("no model file")
'''
ENTRY_POINTS = """
[stillmotion.safety]
ours = content_plugin:Check
pictures = content_plugin:BadPicture
broken = content_plugin:Broken
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package that declares the entry points; returns its directory."""
    site = tmp_path / "site"
    info = site / "content_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "content_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: content-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(site))
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return site


@pytest.fixture
def make_client(plugin, change, api_key):
    apps = []

    def make(name):
        apps.append(create_app(change(safety_check=name)))
        client = apps[-1].test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
        return client

    yield make
    for app in apps:
        app.extensions["services"].close()


def test_a_rejected_prompt_or_picture_is_422_and_nothing_is_stored(
    make_client, photo, store, objects_dir
):
    answer = calls.submit(make_client("ours"), photo, prompt="something forbidden")
    body = calls.assert_problem(answer, 422, "content_rejected", "/prompt")
    assert "bad word" not in body["detail"], "the reason stays internal"
    answer = calls.submit(make_client("pictures"), photo, prompt="wind")
    calls.assert_problem(answer, 422, "content_rejected", "/image")
    video = {"prompt": "wind", "input_reference": (io.BytesIO(photo), "photo.jpg")}
    answer = make_client("pictures").post("/v1/videos", data=video)
    calls.assert_problem(answer, 422, "content_rejected", "/input_reference")
    assert calls.rows_in(store) == 0
    assert calls.objects_in(objects_dir) == []


def test_everything_else_is_accepted(make_client, photo):
    assert calls.submit(make_client("ours"), photo, prompt="wind").status_code == 202


def test_a_check_that_breaks_lets_nothing_through(make_client, photo, store):
    answer = calls.submit(make_client("ours"), photo, prompt="break")
    body = calls.assert_problem(answer, 503, "safety_unavailable")
    assert body["retryable"] is True
    assert calls.rows_in(store) == 0


def test_a_clip_with_a_rejected_frame_is_never_stored(plugin, settings, store, tmp_path):
    with make_fleet(settings, store, tmp_path) as fleet:
        fleet.dispatcher()
        worker = fleet.worker(safety_check="ours").wait_ready()
        job_id = fleet.submit()
        job = fleet.wait(job_id, "failed", "succeeded", timeout_s=60)
        services.wait_until(lambda: worker.outcomes(job_id))
    assert (job.state, job.error_code, job.begun) == ("failed", "content_rejected", 1)
    assert [info.key for info in fleet.objects.list("outputs/")] == []


@pytest.mark.parametrize("name", ["unknown", "broken"])
def test_a_check_that_cannot_be_loaded_is_one_sentence(plugin, name):
    with pytest.raises(ConfigError, match=f"SAFETY_CHECK '{name}'"):
        safety.load(name)


def test_the_check_is_off_by_default(settings):
    assert safety.load(settings.safety_check) is None
