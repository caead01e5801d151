"""Fixtures of the client's tests: scripted and real servers, for both clients and the command.

Tests that use `make_client` run twice: with the blocking client and with the one for asyncio.
"""

import asyncio
import inspect
import threading
import time

import pytest

from app.broker import progress
from app.broker.connections import connect
from app.broker.progress import Step
from app.domain.errors import Permanent
from app.objects import open_objects
from app.store.job import attempts
from stillmotion import AsyncClient, Client, wire
from tests.support import make
from tests.support.command import MP4
from tests.support.scripted_server import Script


class Loop:
    """An event loop in a thread of its own: in this one, browser tests may have left theirs."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking:
    """An AsyncClient with the interface of a Client."""

    def __init__(self, *arguments, **options):
        self._runner = Loop()
        self._client = AsyncClient(*arguments, **options)

    def __enter__(self):
        self._runner.run(self._client.__aenter__())
        return self

    def __exit__(self, *error):
        self._runner.run(self._client.__aexit__(*error))
        self._runner.close()

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*arguments, **options):
            result = method(*arguments, **options)
            return self._runner.run(result) if inspect.iscoroutine(result) else self._each(result)

        return call

    def _each(self, items):
        async def next_item():
            return await anext(items)

        try:
            while True:
                yield self._runner.run(next_item())
        except StopAsyncIteration:
            return
        finally:
            self._runner.run(items.aclose())


@pytest.fixture(params=[Client, Blocking])
def make_client(request):
    return request.param


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(wire, "BACKOFF_CAP_S", 0.02)
    script = Script()
    yield script
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture
def client(script, make_client):
    with make_client(script.url, "sm_key", timeout_s=5) as client:
        yield client


@pytest.fixture
def real(server, api_key, make_client):
    """A client of a real server."""
    with make_client(server, api_key) as client:
        yield client


@pytest.fixture
def photo_file(photo, tmp_path, monkeypatch):
    """A photo next to an empty directory, which is the current one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    return path


@pytest.fixture
def deployed(server, api_key, monkeypatch):
    """The variables that a user of this server would set."""
    monkeypatch.setenv("STILLMOTION_SERVER", server)
    monkeypatch.setenv("STILLMOTION_API_KEY", api_key)


class Worker(threading.Thread):
    """Takes one job through its life with the statements of a real worker."""

    def __init__(self, settings, store, *, fail=False):
        super().__init__(daemon=True)
        self.settings, self.store, self.fail = settings, store, fail
        self.objects = open_objects(
            settings.objects_url, secret_key=settings.secret_key, public_url=settings.public_url
        )
        self.may_finish = threading.Event()
        self.begun = threading.Event()
        self.start()

    def run(self):
        placed = []
        while not placed:
            time.sleep(0.05)
            with self.store.begin() as tx:
                placed = make.place(tx, "motion-small", "us-east", "us-east", ["t"])
        [one] = placed
        with self.store.begin() as tx:
            make.begin(tx, one.job_id, one.fence)
        step = Step(one.fence, 3, time.time())
        progress.report(connect(self.settings.redis_url, 2.0), one.job_id, step, 4)
        self.begun.set()
        self.may_finish.wait(20)
        with self.store.begin() as tx:
            if self.fail:
                error = Permanent("The picture cannot be moved.")
                attempts.fail(
                    tx,
                    one.job_id,
                    1,
                    error,
                    delay_s=0,
                    next_region="us-east",
                    lease_token=make.LEASE,
                )
                return
        key = f"outputs/{one.job_id}.mp4"
        self.objects.put(key, MP4, "video/mp4")
        with self.store.begin() as tx:
            attempts.finish(tx, one.job_id, one.fence, key, len(MP4), lease_token=make.LEASE)


@pytest.fixture
def worker(settings, store):
    made = []

    def make_worker(**options):
        worker = Worker(settings, store, **options)
        made.append(worker)
        return worker

    yield make_worker
    for worker in made:
        worker.may_finish.set()
        worker.join(25)
