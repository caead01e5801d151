"""The operating guide's Flower command, as it stands there."""

import os
import re
import shlex
import sys
from pathlib import Path

import httpx
import pytest

from tests.support import services

LOGIN = ("ops", "a password that only this test uses")


def documented() -> list[str]:
    guide = (services.ROOT / "docs/guides/operating.md").read_text()
    [command] = re.findall(r"^\| Flower \| `(celery .+?)` \|", guide, re.M)
    return shlex.split(command)


@pytest.fixture(scope="module")
def flower(session_settings):
    """Its port."""
    port = services.free_port()
    env = services.environment(session_settings)
    env |= {"FLOWER_PORT": str(port), "FLOWER_BASIC_AUTH": ":".join(LOGIN)}
    _, *arguments = documented()
    command = [sys.executable, "-m", "celery", *arguments]
    quiet = os.open(os.devnull, os.O_WRONLY)
    options = {"env": env, "cwd": services.ROOT, "stdout": quiet, "stderr": quiet}
    with services.process(command, **options) as child:
        url = f"http://127.0.0.1:{port}/healthcheck"
        services.wait_until(lambda: httpx.get(url).is_success, child, 60)
        yield port
    os.close(quiet)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_it_listens_on_the_loopback_address_alone(flower):
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            address, port = local.split(":")
            if state == "0A" and int(port, 16) == flower:
                listening.append(address)
    assert listening == ["0100007F"]  # 127.0.0.1, as the kernel writes it


def test_it_asks_for_the_login_and_its_buttons_are_off(flower):
    url = f"http://127.0.0.1:{flower}"
    for path in ("/workers", "/tasks", "/broker", "/api/workers"):
        assert httpx.get(url + path).status_code == 401, path
    assert httpx.get(f"{url}/workers", auth=LOGIN).status_code == 200
    stop = f"{url}/api/worker/shutdown/any"
    assert httpx.post(stop, auth=LOGIN).status_code == 403
