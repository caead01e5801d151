"""What both clients share: settings, requests in httpx's terms, and methods made from flows."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

import httpx

from stillmotion import settings
from stillmotion.wire import Flow, Item, Items, Request

CONNECT_S = 10.0
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Connection:
    """One server and one key. `timeout_s` limits each wait for the server.

    Raises ConfigurationError.
    """

    def __init__(self, server: str | None, api_key: str | None, timeout_s: float):
        url = settings.server_url(server)
        self._key = f"Bearer {settings.api_key(api_key)}"
        self._timeout_s = timeout_s
        self.options: dict[str, Any] = {
            "base_url": url,
            "limits": LIMITS,
            "follow_redirects": False,
        }

    def arguments(self, request: Request) -> dict[str, Any]:
        """The request as arguments of `httpx.Client.build_request`."""
        content = dict(request.content)
        headers = dict(content.pop("headers", {}))
        # A signed URL carries its own authority and may belong to another host, which must not
        # see the key.
        if not request.signed:
            headers["Authorization"] = self._key
        seconds = self._timeout_s if request.timeout_s is None else request.timeout_s
        timeout = httpx.Timeout(
            seconds, connect=min(seconds, CONNECT_S), read=seconds + request.silence_s
        )
        return {
            "method": request.method,
            "url": request.path,
            "headers": headers,
            "timeout": timeout,
            **content,
        }


def as_items(flow: Flow[T]) -> Items[T]:
    """Turn a flow into one that yields its result as its only item."""
    yield Item((yield from flow))


def as_method(method: F, describe: Callable[..., Any]) -> F:
    """Give a client's method the name, docstring and signature of the flow that it runs."""
    update_wrapper(method, describe)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = inspect.signature(describe)
    signature = known.replace(
        parameters=[own, *known.parameters.values()], return_annotation=inspect.Signature.empty
    )
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method
