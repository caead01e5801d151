"""Every process refuses an invalid regions file with a sentence, the line and EX_CONFIG."""

import subprocess
import sys

import pytest

from tests.support import services

COMMANDS = {
    "app.broker.celery_app": ["celery", "-A", "app.broker.celery_app", "flower"],
    "workers.cpu": ["workers.cpu"],
    "workers.gpu": ["workers.gpu"],
    "app.dispatcher": ["app.dispatcher"],
    "app": ["gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app"],
}


@pytest.mark.parametrize(("who", "command"), COMMANDS.items())
def test_an_invalid_regions_file_stops_a_process_at_startup(change, tmp_path, who, command):
    path = tmp_path / "regions.toml"
    path.write_text('[[region]]\nname = "us-east"\nredis_url = "redis://:secret@host:port"\n')
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command],
        # Longer than the test may take: a worker must read the file before it warms up.
        env=services.environment(
            change(regions_file=path, model_profile="noop", noop_warm_up_s=600.0)
        ),
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 78
    assert done.stderr == (
        f"{who}: {path}:3: redis_url must be a redis:// or rediss:// URL with a host.\n"
    )
