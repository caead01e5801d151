"""What the two clients have in common: options, requests as httpx takes them, methods of flows."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

import httpx

from stillmotion.wire import Flow, Item, Items, Request

CONNECT_S = 10.0
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Connection:
    """One server and one key. `timeout_s`: for every wait for the server."""

    def __init__(self, base_url: str, api_key: str, timeout_s: float):
        self._key = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self.options: dict[str, Any] = {
            "base_url": base_url.rstrip("/"),
            "limits": LIMITS,
            "follow_redirects": False,
        }

    def arguments(self, request: Request) -> dict[str, Any]:
        """The request as `httpx.Client.build_request` takes it."""
        content = dict(request.content)
        headers = dict(content.pop("headers", {}))
        # A signed URL is its own authority, and may be another host's: no key goes there.
        if not request.signed:
            headers["Authorization"] = self._key
        seconds = self._timeout_s
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


def once(flow: Flow[T]) -> Items[T]:
    """A flow whose only item is what it returns."""
    yield Item((yield from flow))


def as_method(method: F, describe: Callable[..., Any]) -> F:
    """Give a client's method the name, the words and the parameters of the flow that it does."""
    update_wrapper(method, describe)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = inspect.signature(describe)
    signature = known.replace(
        parameters=[own, *known.parameters.values()], return_annotation=inspect.Signature.empty
    )
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method
