"""Requests that a stranger's URL would make us send to ourselves or our network (SSRF)."""

import pytest

from app.domain.errors import BadRequest
from app.outbound import vet_url
from tests.support import hostile


def refused(url: str) -> bool:
    try:
        vet_url(url)
    except BadRequest as error:
        return (error.code, error.status) == ("url_not_allowed", 422)
    return False


def test_no_spelling_of_an_address_inside_is_let_through():
    urls = set(hostile.urls())
    assert [url for url in urls if not refused(url)] == []
    assert len(urls) >= hostile.documented("SSRF")


@pytest.mark.parametrize("url", ["https://example.com/", "https://127.0.0.1.example.com:8443/a"])
def test_a_public_name_is_let_through(url):
    assert not refused(url)
