"""The images, and two regions of them under Compose: a photo becomes a clip, nothing is lost."""

import json
import os
import re
import subprocess
import time
from base64 import b64encode

import httpx
import pytest

from tests.infra import images
from tests.infra.chart import LEAST, Helm, layered
from tests.infra.images import TARGETS, name_of
from tests.support.services import ROOT, wait_until

COMPOSE = ROOT / "infra/compose/compose.yaml"
STANDINS = ROOT / "tests/infra/standins/compose.yaml"
OURS = ("api", "dispatcher-us", "dispatcher-eu", "cpu-us", "cpu-eu", "gpu-us", "gpu-eu")
FLOWERS = ("flower-us", "flower-eu")
S3, API, FLOWER, PROMETHEUS, ALERTMANAGER = (f"172.31.250.{number}" for number in range(10, 15))
SECRETS = {
    "POSTGRES_PASSWORD": "a-password-of-postgres",
    "SECRET_KEY": "a-secret-key-that-only-the-tests-ever-use",
    "S3_ACCESS_KEY": "test:tester",
    "S3_SECRET_KEY": "testing",
    "FLOWER_BASIC_AUTH": "ops:a-password-of-flower",
}
MB = 1_000_000


@pytest.fixture(scope="session")
def built(engine):
    """The engine, with all images built."""
    images.build(engine)
    return engine


def sentence_and_status(engine, *arguments):
    done = engine.run("run", "--rm", "--network", "none", *arguments, check=False)
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    return lines[0], done.returncode


def test_the_dockerfiles_have_no_lint(tools):
    files = [ROOT / "infra/docker/Dockerfile", ROOT / "tests/infra/standins/Dockerfile"]
    config = ROOT / "infra/docker/hadolint.yaml"
    done = subprocess.run(
        [tools.hadolint, "--config", config, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_images_sizes(built):
    sizes = {target: built.inspect(name_of(target))["Size"] / MB for target in TARGETS}
    print({target: f"{size:.0f} MB" for target, size in sizes.items()})
    assert sizes["api"] <= 450
    assert sizes["cpu"] == sizes["api"] < sizes["dispatcher"] < sizes["gpu"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_in_particular_and_says_how_it_is(built, target):
    config = built.inspect(name_of(target))["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "healthcheck"]
    assert config["Cmd"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_without_its_settings_ends_with_a_sentence(built, target):
    login = ("-e", "FLOWER_BASIC_AUTH=ops:secret") if target == "flower" else ()
    sentence, status = sentence_and_status(built, *login, name_of(target))
    assert status == 78
    assert "DATABASE_URL: Field required" in sentence


def test_flower_without_a_login_ends_with_a_sentence(built):
    sentence, status = sentence_and_status(built, name_of("flower"))
    assert (sentence, status) == ("flower: FLOWER_BASIC_AUTH must be USER:PASSWORD.", 78)


def test_planning_without_scipy_ends_with_a_sentence(built):
    command = ("stillmotion", "plan", "/srv/stillmotion/regions.toml", "--peak", "us=1")
    regions = f"{ROOT}/infra/compose/regions.toml:{command[2]}:ro"
    sentence, status = sentence_and_status(
        built, "-v", regions, name_of("api"), *command, "--service", "4"
    )
    assert "dispatcher's image" in sentence and status == 78


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_lists_what_is_in_it(built, tools, target, tmp_path):
    path = tmp_path / "bom.json"
    path.write_text(
        built.run("run", "--rm", name_of(target), "cat", "/usr/share/sbom.cdx.json").stdout
    )
    bom = json.loads(path.read_text())
    names = {entry["purl"].partition("@")[0] for entry in bom["components"]}
    assert {"pkg:deb/debian/libc6", "pkg:pypi/celery", "pkg:pypi/sqlalchemy"} <= names
    assert ("pkg:pypi/torch" in names) == (target == "gpu")
    assert ("pkg:pypi/scipy" in names) == (target == "dispatcher" or target == "gpu")
    assert not {"pkg:pypi/pip", "pkg:pypi/pytest"} & names
    code = (
        "import sys\n"
        "from cyclonedx.validation.json import JsonStrictValidator\n"
        "from cyclonedx.schema import SchemaVersion\n"
        "wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())\n"
        "sys.exit(wrong and str(wrong))"
    )
    done = subprocess.run([tools.python, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Deployment:
    """Two regions under Compose."""

    def __init__(self, engine, tools):
        self.engine = engine
        self._compose = [tools.compose, "-f", COMPOSE, "-f", STANDINS, "-p", "stillmotion-tests"]
        given = {"IMAGES": "stillmotion", "TAG": images.TAG}
        given |= {"S3_PUBLIC_URL": f"http://{S3}:8333", "PUBLIC_URL": f"http://{API}:8000"}
        self.env = engine.env | SECRETS | given

    def compose(self, *arguments, check=True, env=None, timeout_s=600):
        done = subprocess.run(
            [*map(str, self._compose), *arguments],
            env=env or self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0 or not check, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    def container(self, service):
        """What the engine says about a service's container."""
        return self.engine.inspect(self.compose("ps", "-aq", service).stdout.strip())

    def inside(self, service, *command):
        return self.engine.run("exec", self.container(service)["Id"], *command, check=False)

    def stop(self, service, patience_s):
        """Stop a container; seconds that it took. It must end by itself, with status 0."""
        name = self.container(service)["Id"]
        started = time.monotonic()
        self.engine.run("stop", "-t", str(patience_s), name)
        assert self.engine.inspect(name)["State"]["ExitCode"] == 0
        return time.monotonic() - started

    def start(self, service, *, wait=True):
        self.engine.run("start", self.container(service)["Id"])
        if wait:
            healthy = lambda: self.container(service)["State"]["Health"]["Status"] == "healthy"  # noqa: E731
            wait_until(healthy, timeout_s=120)


@pytest.fixture(scope="module")
def deployment(built, tools):
    deployment = Deployment(built, tools)
    try:
        started = time.monotonic()
        up = ("up", "--wait", "--wait-timeout", "540", "--pull", "never", "--no-build")
        done = deployment.compose(*up, check=False)
        if done.returncode != 0:
            logs = deployment.compose("logs", "--tail", "20", check=False).stdout
            pytest.fail(done.stderr[-3000:] + logs[-12000:])
        print(f"up in {time.monotonic() - started:.0f} s")
        yield deployment
    finally:
        deployment.compose("down", "--volumes", "--timeout", "20", check=False)


@pytest.fixture(scope="module")
def client(deployment):
    """The service, by a key of its own."""
    key = deployment.inside("api", "stillmotion", "keys", "create", "--name", "t").stdout.split()[0]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://{API}:8000", headers=headers, timeout=90) as client:
        yield client


def submit(client, photo, **fields):
    answer = client.post("/v1/jobs", files={"image": ("photo.jpg", photo)}, data=fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def wait(client, job_id, *states, timeout_s=120):
    found = {}

    def reached():
        found.update(client.get(f"/v1/jobs/{job_id}").json())
        return found["state"] in states

    wait_until(reached, timeout_s=timeout_s)
    return found


def test_compose_takes_its_file_and_refuses_mistakes(tools, tmp_path):
    """Needs no engine."""
    base = {name: os.environ[name] for name in ("PATH", "HOME")}

    def config(*files, **env):
        arguments = [each for file in files for each in ("-f", file)]
        done = subprocess.run(
            [tools.compose, *arguments, "config", "-q"],
            env=base | env,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    example = COMPOSE.with_name("example.env").read_text()
    assert set(re.findall(r"^(\w+)=$", example, re.M)) == SECRETS.keys()
    assert config(COMPOSE, **SECRETS) == (0, "")
    assert config(COMPOSE, COMPOSE.with_name("compose.gpu.yaml"), **SECRETS) == (0, "")
    for name in SECRETS:
        status, said = config(COMPOSE, **{**SECRETS, name: ""})
        assert status != 0 and name in said
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("services: {api: {read_onyl: true}}\n")
    status, said = config(COMPOSE, wrong, **SECRETS)
    assert status != 0 and "read_onyl" in said


@pytest.mark.parametrize("region", ["us-east", "eu-west"])
def test_a_photo_becomes_a_clip(client, photo, region):
    job_id = submit(client, photo, region=region, policy="strict", frames="8", size="128")
    job = wait(client, job_id, "succeeded", "failed")
    assert job["state"] == "succeeded", job
    assert httpx.get(job["output"]["url"]).content[4:8] == b"ftyp"


@pytest.mark.parametrize("service", [*OURS, *FLOWERS])
def test_a_process_can_change_nothing_but_tmp(deployment, service):
    container = deployment.container(service)
    assert container["State"]["Health"]["Status"] == "healthy"
    assert container["HostConfig"]["ReadonlyRootfs"]
    status = dict(
        line.split(":\t", 1)
        for line in deployment.inside(service, "cat", "/proc/1/status").stdout.splitlines()
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert (int(status["CapBnd"], 16), int(status["CapEff"], 16)) == (0, 0)
    assert status["NoNewPrivs"] == "1"
    assert "Read-only" in deployment.inside(service, "touch", "/srv/stillmotion/x").stderr
    assert deployment.inside(service, "touch", "/tmp/x").returncode == 0


def test_flower_asks_for_its_login(deployment):
    url = f"http://{FLOWER}:5555"
    assert httpx.get(url).status_code == 401
    login = b64encode(SECRETS["FLOWER_BASIC_AUTH"].encode()).decode()
    assert httpx.get(url, headers={"Authorization": f"Basic {login}"}).status_code == 200


def test_prometheus_scrapes_every_process_and_knows_its_alertmanager(deployment):
    url = f"http://{PROMETHEUS}:9090/api/v1"

    def all_up():
        targets = httpx.get(f"{url}/targets").json()["data"]["activeTargets"]
        assert len(targets) == len(OURS) + len(FLOWERS)
        return {target["health"] for target in targets} == {"up"}

    wait_until(all_up, timeout_s=60)
    found = httpx.get(f"{url}/alertmanagers").json()["data"]["activeAlertmanagers"]
    assert [each["url"] for each in found] == ["http://alertmanager:9093/api/v2/alerts"]
    assert httpx.get(f"http://{ALERTMANAGER}:9093/-/ready").status_code == 200


def test_the_api_is_ready_soon_after_its_start(deployment):
    deployment.stop("api", 30)
    deployment.start("api", wait=False)
    started = time.monotonic()
    wait_until(lambda: httpx.get(f"http://{API}:8000/readyz", timeout=2).is_success, timeout_s=60)
    took_s = time.monotonic() - started
    print(f"ready after {took_s:.1f} s")
    assert took_s < 20  # 5 on a machine with nothing else to do


def test_a_worker_that_is_stopped_while_it_loads_ends_at_once(deployment):
    assert deployment.stop("gpu-us", 60) < 30  # idle
    deployment.start("gpu-us", wait=False)
    time.sleep(1.0)
    assert deployment.stop("gpu-us", 60) < 15
    deployment.start("gpu-us")


def test_a_worker_that_is_stopped_in_a_render_finishes_it(deployment, client, photo):
    fields = {"region": "eu-west", "policy": "strict"}
    job_id = submit(client, photo, **fields, frames="96", size="512")
    assert wait(client, job_id, "processing", "succeeded")["state"] == "processing"
    deployment.stop("gpu-eu", 200)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], len(job["attempts"])) == ("succeeded", 1), job
    waiting = submit(client, photo, **fields, frames="8", size="128")
    deployment.start("gpu-eu")
    assert len(wait(client, waiting, "succeeded")["attempts"]) == 1


LIVE = 'stillmotion_live_jobs{profile="motion-small",region="us-east",state='
SCALING = {  # what a pool's query gives, by the series that Prometheus has
    "waiting and running jobs": ([(f'{LIVE}"queued"}}', "7"), (f'{LIVE}"processing"}}', "4")], 11),
    "nothing to do": ([(f'{LIVE}"queued"}}', "0")], 0),
    "two leaders in one scrape": (
        [(f'{LIVE}"queued",pod="a"}}', "5"), (f'{LIVE}"queued",pod="b"}}', "6")],
        6,
    ),
    "another pool's jobs": ([(f'{LIVE.replace("us-east", "us-west")}"queued"}}', "7")], None),
    "figures that are old": ([(f'{LIVE}"queued"}}', "7")], None),
    "nobody who leads": ([], None),
}


@pytest.mark.parametrize("case", SCALING)
def test_the_query_that_scales_a_pool(built, tools, tmp_path, case):
    """In a real Prometheus. No value is an error to KEDA, and then `fallback` counts."""
    keda = {"prometheus": "http://prometheus:9090"}
    pool = {"keda": {"enabled": True, "max": 9}}
    cells = {"us-east": {"pools": {"motion-small": pool}}}
    values = layered(LEAST, {"cells": cells, "keda": keda})
    [scaler] = Helm(tools, tmp_path).render(values).of("ScaledObject")
    query = scaler["spec"]["triggers"][0]["metadata"]["query"]
    series, expected = SCALING[case]
    age = "300" if case == "figures that are old" else "3"
    ages = [("stillmotion_cluster_age_seconds", age)] if case != "nobody who leads" else []
    samples = [] if expected is None else [{"labels": "{}", "value": expected}]
    test = {
        "input_series": [{"series": name, "values": value} for name, value in [*series, *ages]],
        "promql_expr_test": [{"expr": query, "eval_time": "0m", "exp_samples": samples}],
    }
    (tmp_path / "test.yml").write_text(json.dumps({"tests": [test]}))
    promtool = ("--rm", "-v", f"{tmp_path}:/t:ro", images.STANDINS, "promtool")
    done = built.run(
        "run", "--network", "none", *promtool, "test", "rules", "/t/test.yml", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
