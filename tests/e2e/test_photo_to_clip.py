"""A photo becomes a clip through every real part, from gunicorn to the model."""

import io
import json
import re
import time

import av
import httpx
import numpy as np
import pytest
import skimage.data
import standardwebhooks
from PIL import Image

from app.store import keys
from tests.support import services
from tests.support.fleet import fleet as make_fleet
from tests.support.fleet import wait_for

SECRET_PLACE = "51 deg 28' 38.00\" N"
FRAMES = 16


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The folder of the service's logs."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def _api(session_settings, _shared_store, logs, module_receiver):
    """The whole service; yields its URL."""
    port = services.free_port()
    changes = {"public_url": f"http://127.0.0.1:{port}", "outbound_allow": module_receiver.address}
    config = session_settings.model_copy(update=changes)
    with (
        services.gunicorn(config, logs / "api.log") as url,
        make_fleet(config, _shared_store, logs) as fleet,
    ):
        fleet.dispatcher(), fleet.dispatcher()
        fleet.cpu_worker()
        fleet.worker(model_profile="motion-small").wait_ready()
        yield url


@pytest.fixture
def client(_api, settings, api_key):
    """A client of the service, whose stores are empty."""
    with httpx.Client(
        base_url=_api, headers={"Authorization": f"Bearer {api_key}"}, timeout=30
    ) as client:
        yield client


def tagged_photo():
    """A photo stored on its side, with a place as its EXIF description."""
    picture = Image.fromarray(skimage.data.coffee()).resize((300, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    exif[0x010E] = SECRET_PLACE
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=92, exif=exif)
    return out.getvalue(), np.asarray(picture.rotate(-90, expand=True))


def decode(video):
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def test_a_photo_becomes_a_moving_clip_that_starts_with_it(client, module_receiver):
    photo, upright = tagged_photo()
    submitted = client.post(
        "/v1/jobs",
        files={"image": ("photo.jpg", photo)},
        data={
            "prompt": "slow zoom in",
            "frames": str(FRAMES),
            "seed": "7",
            "webhook_url": module_receiver.url("/hook"),
        },
    )
    assert submitted.status_code == 202, submitted.text
    job = submitted.json()
    steps, deadline = set(), time.monotonic() + 120
    while not job["terminal"]:
        assert time.monotonic() < deadline, job
        job = client.get(f"/v1/jobs/{job['id']}").json()
        if job["state"] == "processing":
            steps.add(job["progress"]["step"])
        time.sleep(0.02)
    assert job["state"] == "succeeded", job
    # Encoding takes longer than all steps together, so the last step stays visible.
    assert max(steps) == job["progress"]["steps"] == 4, f"progress seen: {sorted(steps)}"
    assert job["attempts"][0]["hops"][-1]["outcome"] == "placed"

    video = client.get(f"/v1/jobs/{job['id']}/video", follow_redirects=True)
    assert video.headers["content-type"] == "video/mp4"
    assert SECRET_PLACE.encode() not in video.content
    frames = decode(video.content)
    assert len(frames) == FRAMES and frames[0].shape == upright.shape
    assert (job["height"], job["width"]) == frames[0].shape[:2]
    error = np.mean((frames[0].astype(float) - upright) ** 2)
    assert 10 * np.log10(255**2 / error) > 28, "frame 0 is not the picture"
    motion = [np.abs(frame.astype(float) - frames[0]).mean() for frame in frames]
    assert motion[-1] > 2.0, "nothing moves"

    [(headers, body, _)] = module_receiver.wait("/hook")
    secret = client.get("/v1/webhooks/secret").json()["secret"]
    event = standardwebhooks.Webhook(secret).verify(body, headers)
    assert event["type"] == "job.succeeded"
    assert event["data"]["job"]["id"] == job["id"]
    linked = httpx.get(event["data"]["job"]["output"]["url"], headers={"Range": "bytes=4-7"})
    assert (linked.status_code, linked.content) == (206, b"ftyp")


def test_the_same_seed_gives_the_same_clip(client):
    photo, _ = tagged_photo()
    clips = []
    for _ in range(2):
        job = client.post(
            "/v1/jobs",
            files={"image": ("photo.jpg", photo)},
            data={"frames": "8", "seed": "3", "prompt": "waves", "size": "128"},
        ).json()
        url = f"/v1/jobs/{job['id']}"
        wait_for(lambda url=url: client.get(url).json()["terminal"], timeout_s=60)
        clips.append(client.get(f"{url}/video", follow_redirects=True).content)
    assert clips[0] == clips[1]


def test_a_service_s_logs_are_json_and_hold_no_key(client, api_key, logs):
    """Those of the jobs above too: each test had a key of its own."""
    assert client.get("/v1/jobs").is_success
    key = re.compile(rf"{keys.PREFIX}[\w-]{{{len(api_key) - len(keys.PREFIX)}}}")
    assert key.fullmatch(api_key)
    found = list(logs.glob("*.log"))
    assert len(found) == 5
    for log in found:
        lines = log.read_text().splitlines()
        assert not any(key.search(line) for line in lines)
        assert all(json.loads(line) for line in lines if line.startswith("{"))
