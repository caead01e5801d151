"""The API in this process, the processes that send webhooks, and Redis."""

import contextlib
import itertools
from threading import Event, Thread

import pytest

from app.api.application import create_app
from app.broker.connections import connect
from app.broker.publish import Publisher
from app.dispatcher.deliveries import DeliveryLoop
from app.store import keys
from tests.support.contract import Contract
from tests.support.cpu_worker import cpu_worker
from tests.support.deployment import FILE, Deployment
from tests.support.receiver import Receiver


@pytest.fixture(scope="session")
def contract(session_settings):
    """What the OpenAPI document says about the API's responses."""
    app = create_app(session_settings)
    yield Contract(app.extensions["openapi"].value, app.url_map)
    app.extensions["services"].close()


@pytest.fixture
def app(settings, contract):
    """The API. Its test clients check every response against the document."""
    app = create_app(settings)
    app.test_client_class = contract.client_class()
    yield app
    app.extensions["services"].close()


@pytest.fixture
def anonymous(app):
    """A client of the API without a key."""
    return app.test_client()


@pytest.fixture
def api(app, api_key):
    """A client of the API with a key."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    return client


@pytest.fixture
def caller(store, api_key):
    """The id of the API's caller."""
    with store.autocommit() as conn:
        return keys.find(conn, api_key).id


@pytest.fixture
def publisher(settings):
    publisher = Publisher(settings)
    yield publisher
    publisher.close()


@pytest.fixture
def client(settings):
    with connect(settings.redis_url, 2.0) as client:
        yield client


@pytest.fixture
def deployment(settings, store, tmp_path):
    """Four regions: near, middle and distant lie in home's three rings."""
    regions = tmp_path / "regions.toml"
    regions.write_text(FILE)
    values = settings.model_dump() | {"regions_file": regions, "region": "home"}
    return Deployment(type(settings)(**values), store)


@pytest.fixture
def log(tmp_path):
    """The first worker's log."""
    return tmp_path / "cpu-1.log"


@pytest.fixture
def start_worker(change, receiver, tmp_path):
    """A function that starts a CPU worker process and waits until it consumes."""
    count = itertools.count(1)
    with contextlib.ExitStack() as started:

        def start(allow=receiver.address, **changes):
            log = tmp_path / f"cpu-{next(count)}.log"
            return started.enter_context(cpu_worker(change(outbound_allow=allow, **changes), log))

        yield start


@pytest.fixture
def start_loop(store, publisher, client):
    """A function that starts one dispatcher's loop in a thread."""
    stopping, started = Event(), []

    def start():
        loop = DeliveryLoop(store, publisher, client)
        thread = Thread(target=loop.run, args=(stopping,))
        thread.start()
        started.append((loop, thread))
        return loop

    yield start
    stopping.set()
    for loop, thread in started:
        loop.kick()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def other():
    """A second receiver."""
    receiver = Receiver()
    yield receiver
    receiver.close()
