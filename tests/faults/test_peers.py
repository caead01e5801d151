"""The two applications that the pipeline benchmark compares ours with make our promise."""

import os
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from scripts.benchmarks.peers import durable
from scripts.benchmarks.peers.environment import PeerUnavailable, interpreter
from scripts.benchmarks.systems import burst, latencies
from scripts.stack.data import choose_directory
from scripts.stack.stack import Stack

PICTURES = {
    "plain": "SELECT picture FROM jobs",
    "procrastinate": "SELECT args->>'picture' FROM procrastinate_jobs WHERE queue_name = 'animate'",
}


@pytest.fixture(scope="module")
def stack():
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # root's Postgres runs as nobody and must reach it
        with Stack(Path(directory), regions=("us-east",), processes=()) as stack:
            yield stack


@pytest.mark.timeout(600)  # the first run installs the peer
@pytest.mark.parametrize("kind", [durable.Plain, durable.Procrastinate], ids=lambda kind: kind.name)
def test_a_peer_renders_jobs_and_keeps_what_it_accepted(stack, kind):
    try:
        python = interpreter(kind.name, choose_directory(os.environ)[0] / "peers")
    except PeerUnavailable as error:
        pytest.skip(str(error))
    with kind(python, stack) as peer:
        submits, dones = latencies(peer.client(), 4)
        assert all(submit < done for submit, done in zip(submits, dones, strict=True))
        assert burst(peer, 8) > 0
        assert len(list(peer.storage.glob("outputs/**/*.mp4"))) == 12

        bad = b"not a picture"
        with pytest.raises(RuntimeError, match=" 422 "):
            peer.client().request("POST", "/v1/jobs", form(bad))

        peer.hold()
        accepted = [peer.client().submit() for _ in range(4)]
        assert peer.last_done(accepted) is None
        for name in ("postgres", *peer.processes()):
            stack.kill(name)
        pictures = read_again(peer.database_url, PICTURES[kind.name])
        assert len(pictures) == 16
        assert all((peer.storage / key).read_bytes()[:2] == b"\xff\xd8" for (key,) in pictures)
    assert not peer.storage.exists()
    with psycopg.connect(stack.env["DATABASE_URL"]) as conn:
        rest = conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'peer%'").fetchall()
    assert rest == []


def form(picture: bytes) -> bytes:
    head = (
        "--stillmotion-bench\r\n"
        'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    )
    return head.encode() + picture + b"\r\n--stillmotion-bench--\r\n"


def read_again(url: str, query: str) -> list[tuple[str]]:
    """The rows, once the supervisor has started Postgres again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with psycopg.connect(url, connect_timeout=5) as conn:
                return conn.execute(query).fetchall()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
