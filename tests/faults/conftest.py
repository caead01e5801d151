"""One deployment per test, on real services and real processes."""

from pathlib import Path

import pytest

from tests.support.fleet import fleet as make_fleet

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before slow tests are left out
def pytest_collection_modifyitems(items):
    """Faults take time: all of them are slow."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def fleet(settings, store, tmp_path):
    with make_fleet(settings, store, tmp_path) as fleet:
        yield fleet
