"""The server and key that a client uses: its arguments, or else the environment."""

import os
from urllib.parse import urlsplit

from stillmotion.errors import ConfigurationError

SERVER_VARIABLE, KEY_VARIABLE = "STILLMOTION_SERVER", "STILLMOTION_API_KEY"


def server_url(given: str | None) -> str:
    """The server's URL without a slash at its end. Raises ConfigurationError."""
    url = os.environ.get(SERVER_VARIABLE, "") if given is None else given
    if not url.strip():
        raise ConfigurationError(f"No server URL: pass `server` or set {SERVER_VARIABLE}.")
    return checked_url(url)


def api_key(given: str | None) -> str:
    """The API key. Raises ConfigurationError."""
    key = os.environ.get(KEY_VARIABLE, "") if given is None else given
    if not key.strip():
        raise ConfigurationError(f"No API key: pass `api_key` or set {KEY_VARIABLE}.")
    return checked_key(key)


def checked_url(url: str) -> str:
    """Raises ConfigurationError."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, a broken IPv6 address
        good = False
    if not good or not url.isprintable() or " " in url:
        raise ConfigurationError(
            f"{url!r} is not a server URL: it must look like https://host or http://host:port."
        )
    return url.rstrip("/")


def checked_key(key: str) -> str:
    """Raises ConfigurationError."""
    key = key.strip()  # files and variables often end with a newline
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("The API key contains characters that no API key has.")
    return key
