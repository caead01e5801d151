"""A worker whose GPU is a group of two processes: members killed, clips canceled in mid-render.

A toy of a real family through the whole service, submit to MP4; Gloo on the CPU.
"""

import io
import os
import signal
from pathlib import Path

import av
import httpx
import numpy as np
import pytest

from app.broker import progress
from tests.support import make, services
from tests.support.fleet import ends, wait_for
from tests.support.fleet import fleet as make_fleet

pytest.importorskip("transformers")
from tests.support.toys import TOYS

pytestmark = pytest.mark.timeout(400)

NAME = "wan22-ti2v"  # takes the scheduler's own noise levels, so it may have many steps
STEPS = 40  # of some hundredths of a second: time enough to notice one of them
LOADED_S = 240.0  # all processes import the libraries, on a machine that does other things, too

# What several GPUs share out, and the side of the clips.
TOKENS = ("gpus = 2", 128)
PASSES_AND_TOKENS = ("gpus = 4, guidance = true", 64)


@pytest.fixture
def models(tmp_path, request):
    """A directory with a checkpoint and its profile, for several GPUs."""
    parallel, side = getattr(request, "param", TOKENS)
    folder = tmp_path / "models"
    toy = TOYS[NAME]
    toy.save(folder)
    toy.profile(
        folder,
        table=("first_frame", f"parallel = {{ {parallel} }}\nfirst_frame"),
        sizes=[f"{side}x{side}"],
        default_size=side,
        steps=STEPS,
    )
    return folder


class Service:
    """The API, a dispatcher, and a client that submits to the group's profile."""

    def __init__(self, url, api_key, fleet, photo):
        headers = {"Authorization": f"Bearer {api_key}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=30)
        self.fleet, self._photo = fleet, photo

    def worker(self):
        return self.fleet.worker(model_profile=NAME)

    def submit(self, seed):
        sent = self.client.post(
            "/v1/jobs",
            files={"image": ("a.jpg", self._photo)},
            data={"model": NAME, "seed": str(seed), "frames": "9", "prompt": "gentle waves"},
        )
        assert sent.status_code == 202, sent.text
        return sent.json()["id"]

    def step(self, job_id):
        """The step of the attempt that renders now; 0 before the first."""
        job = self.fleet.read(job_id)
        seen = progress.read(self.fleet.redis, job_id, job.fence)
        return 0 if job.state != "processing" or seen is None else seen

    def hold(self, job_id, pid):
        """Stop a member of the group in mid-render; the others wait for it."""
        wait_for(lambda: self.step(job_id) >= 1, timeout_s=60)
        os.kill(pid, signal.SIGSTOP)
        assert 1 <= self.step(job_id) < STEPS

    def frames(self, job_id, timeout_s=LOADED_S):
        """Pixels of a job's clip, once it has one: (frames, height, width, 3)."""
        self.fleet.wait(job_id, "succeeded", timeout_s=timeout_s)
        url = self.client.get(f"/v1/jobs/{job_id}").json()["urls"]["video"]
        clip = self.client.get(url, follow_redirects=True).content
        with av.open(io.BytesIO(clip)) as video:
            return np.stack([each.to_ndarray(format="rgb24") for each in video.decode(video=0)])


@pytest.fixture
def service(change, store, tmp_path, models, api_key, photo):
    config = change(
        public_url=f"http://127.0.0.1:{services.free_port()}",
        model_profiles=models,
        served_profiles=("noop", NAME),
    )
    with services.gunicorn(config) as url, make_fleet(config, store, tmp_path) as fleet:
        fleet.dispatcher()
        yield Service(url, api_key, fleet, photo)


def followers(worker):
    """The processes that follow a worker, by GPU."""
    found = {}
    for task in Path(f"/proc/{worker.pid}/task").glob("*/children"):
        for pid in map(int, task.read_text().split()):
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "workers.engines.diffusers.follower" in command:
                (gpu,) = [each for each in command if each.startswith("gpu=")]
                found[int(gpu.removeprefix("gpu="))] = pid
    return found


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def events(worker, name):
    return [line for line in worker.log if line.get("event") == name]


def test_a_group_cancels_in_mid_render_and_survives_a_killed_follower(service):
    worker = service.worker()
    clip = service.frames(service.submit(seed=1))
    assert clip.shape == (9, 128, 128, 3)
    (follower,) = followers(worker).values()

    # Canceled: both stop at the same step, and the group goes on as if nothing had been.
    canceled = service.submit(seed=2)
    service.hold(canceled, follower)
    assert service.client.post(f"/v1/jobs/{canceled}/cancel").is_success
    told = service.step(canceled)
    os.kill(follower, signal.SIGCONT)
    service.fleet.wait(canceled, "canceled", timeout_s=10)
    assert ends(canceled, worker, last="canceled") == ["canceled"]
    fence = service.fleet.read(canceled).fence
    last = progress.read(service.fleet.redis, canceled, fence)
    # One step was being made, and the report of one before may have been on its way.
    assert last < STEPS and last <= told + 2
    assert np.array_equal(service.frames(service.submit(seed=1)), clip)
    assert followers(worker) == {1: follower}

    # A follower killed: the attempt is lost, not the job; the leader keeps its weights.
    hit = service.submit(seed=1)
    service.hold(hit, follower)
    os.kill(follower, signal.SIGKILL)
    assert np.array_equal(service.frames(hit), clip)
    attempts = make.attempts_of(service.fleet.store, hit)
    assert [each.error_code for each in attempts] == ["group_failed", None]
    assert worker.alive
    (other,) = followers(worker).values()
    assert other != follower and not is_running(follower)
    assert len(events(worker, "model_group_broken")) == 1
    assert len(events(worker, "model_group_formed")) == 2


def test_no_follower_outlives_a_killed_worker_and_its_job_succeeds_elsewhere(service):
    worker = service.worker()
    clip = service.frames(service.submit(seed=1))
    (follower,) = followers(worker).values()
    hit = service.submit(seed=1)
    service.hold(hit, worker.pid)
    worker.kill()
    wait_for(lambda: not is_running(follower))
    other = service.worker()
    assert np.array_equal(service.frames(hit), clip)
    attempts = make.attempts_of(service.fleet.store, hit)
    assert len(attempts) == 2 and attempts[1].error_code is None
    assert len(followers(other)) == 1
    other.kill()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("models", [PASSES_AND_TOKENS], indirect=True)
def test_a_group_of_passes_and_tokens_survives_any_follower_and_ends_with_its_leader(service):
    """GPUs 0 and 1 make the pass with the prompt, and 2 and 3 that without."""
    worker = service.worker()
    clip = service.frames(service.submit(seed=1))
    for gpu in (1, 3):  # of the leader's half, and of the other
        group = followers(worker)
        assert sorted(group) == [1, 2, 3]
        hit = service.submit(seed=1)
        service.hold(hit, group[gpu])
        os.kill(group[gpu], signal.SIGKILL)
        assert np.array_equal(service.frames(hit), clip)
        attempts = make.attempts_of(service.fleet.store, hit)
        assert [each.error_code for each in attempts] == ["group_failed", None]
        assert worker.alive
        assert not any(map(is_running, group.values()))
    assert len(events(worker, "model_group_formed")) == 3

    group = followers(worker)
    assert sorted(group) == [1, 2, 3] and all(map(is_running, group.values()))
    service.hold(service.submit(seed=1), worker.pid)
    worker.kill()
    wait_for(lambda: not any(map(is_running, group.values())))
