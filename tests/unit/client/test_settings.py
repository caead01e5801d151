"""A client's server and key: from its arguments, else from the environment, checked at once."""

import pytest

from stillmotion import AsyncClient, Client, ConfigurationError

SERVER, KEY = "http://127.0.0.1:8000", "sm_key"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    monkeypatch.delenv("STILLMOTION_SERVER", raising=False)
    monkeypatch.delenv("STILLMOTION_API_KEY", raising=False)


@pytest.fixture(params=[Client, AsyncClient])
def make_client(request):
    return request.param


@pytest.mark.parametrize(
    ("server", "key", "sentence"),
    [
        (None, KEY, "No server URL: pass `server` or set STILLMOTION_SERVER."),
        (SERVER, None, "No API key: pass `api_key` or set STILLMOTION_API_KEY."),
        (SERVER, " \n", "No API key"),
        (SERVER, "sm_ключ", "The API key contains characters"),
        ("localhost:8000", KEY, "'localhost:8000' is not a server URL: it must look like"),
        ("stillmotion.example", KEY, "is not a server URL"),
        ("ftp://stillmotion.example", KEY, "is not a server URL"),
        ("https://", KEY, "is not a server URL"),
        ("http://host:port", KEY, "is not a server URL"),
        ("http://[::1", KEY, "is not a server URL"),
    ],
)
def test_a_missing_or_malformed_setting_is_one_sentence(make_client, server, key, sentence):
    with pytest.raises(ConfigurationError) as caught:
        make_client(server, key)
    assert sentence in caught.value.detail
    assert caught.value.code == "invalid_configuration"


def test_environment_variables_replace_missing_arguments(make_client, monkeypatch):
    monkeypatch.setenv("STILLMOTION_SERVER", f"{SERVER}/")
    monkeypatch.setenv("STILLMOTION_API_KEY", f"{KEY}\n")
    assert str(make_client()._http.base_url).rstrip("/") == SERVER
    monkeypatch.setenv("STILLMOTION_SERVER", "nonsense")
    assert make_client("https://other.example")._http.base_url.host == "other.example"
