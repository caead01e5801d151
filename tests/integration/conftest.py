"""The API in this process, for tests that need no wire; a publisher and a Redis client."""

import pytest

from app.api.application import create_app
from app.broker.connections import connect
from app.broker.publish import Publisher
from tests.world import FILE, World


@pytest.fixture
def app(settings):
    app = create_app(settings)
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
def publisher(settings):
    publisher = Publisher(settings)
    yield publisher
    publisher.close()


@pytest.fixture
def client(settings):
    with connect(settings.redis_url, 2.0) as client:
        yield client


@pytest.fixture
def world(settings, store, tmp_path):
    """Four regions: near, middle and distant lie in home's three rings."""
    regions = tmp_path / "world.toml"
    regions.write_text(FILE)
    values = settings.model_dump() | {"regions_file": regions, "region": "home"}
    return World(type(settings)(**values), store)
