"""One deployment per test, on real services and real processes."""

import pytest

from tests.support.fleet import fleet as make_fleet


@pytest.fixture
def fleet(settings, store, tmp_path):
    with make_fleet(settings, store, tmp_path) as fleet:
        yield fleet
