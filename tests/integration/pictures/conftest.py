"""One decoder process for all tests that do not harm it."""

import pillow_heif
import pytest

from app.pictures.normaliser import Normaliser

pillow_heif.register_heif_opener()  # the tests write HEIC, too


@pytest.fixture(scope="session")
def normaliser():
    with Normaliser() as shared:
        yield shared
