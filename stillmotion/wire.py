"""Requests, and what is done when one fails, without doing any I/O.

A flow is a generator. It yields steps, gets each step's result back, and returns what a method of
the clients returns; where a method iterates, it yields items between its steps. `Client` and
`AsyncClient` differ only in how they do the steps.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

import httpx

from stillmotion.backoff import full_jitter, retry_after_s
from stillmotion.errors import Fault, Rejected, Unreachable

TRIES = 6  # some seconds of a server that is away, more if it asks for more
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.25, 8.0
RETRY_AFTER_CAP_S = 30.0
RETRIED = frozenset({429, 502, 503, 504})
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

T = TypeVar("T")


class Repeat(Enum):
    """When a request may be sent again after a try that failed."""

    SAFE = "safe"  # always: doing it twice is as good as once
    UNSENT = "unsent"  # only if the server cannot have done it


@dataclass(frozen=True)
class Request:
    """One request. `path` may be a whole URL where it is `signed`, and so its own authority.

    `silence_s`: how much longer than usual the server may say nothing.
    """

    method: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)  # as httpx takes it
    repeat: Repeat = Repeat.SAFE
    signed: bool = False
    silence_s: float = 0.0


@dataclass(frozen=True)
class Send:
    """Send a request; results in the whole answer. Raises httpx.RequestError into the flow."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send a request; results in the answer, whose body follows by Read unless it is a refusal.

    One answer is open at a time: the next one, or the end of the flow, closes it.
    """

    request: Request


@dataclass(frozen=True)
class Read:
    """Results in the next bytes of the open answer, b"" at its end."""


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Work:
    """Something that blocks, a file's I/O; results in what it returns."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Item(Generic[T]):
    """Not a step: something for the caller who iterates."""

    value: T


Step = Send | Open | Read | Sleep | Work
Flow = Generator[Step, Any, T]
Items = Generator[Step | Item[T], Any, None]


def exchange(request: Request, tries: int = TRIES) -> Flow[httpx.Response]:
    """Send a request, `tries` times in all while that is safe.

    Raises Rejected, whose `repeated` says whether an earlier try may have been done, and
    Unreachable.
    """
    repeated = False
    for n in range(1, tries + 1):
        retry_after = None
        try:
            answer: httpx.Response = yield Send(request)
        except httpx.RequestError as error:
            failure = lost(error)
            unsent = isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
            )
            repeated = repeated or not unsent
            again = unsent or request.repeat is Repeat.SAFE
        else:
            if answer.is_success:
                return answer
            failure = refused(answer, repeated)
            # 429: it was not done. The others may come from a proxy that lost the answer.
            again = answer.status_code == 429 or (
                answer.status_code in RETRIED and request.repeat is Repeat.SAFE
            )
            repeated = repeated or answer.status_code != 429
            retry_after = answer.headers.get("Retry-After")
        if n == tries or not again:
            raise failure
        yield Sleep(pause_s(n, retry_after))
    raise AssertionError("unreachable")


def lost(error: httpx.RequestError) -> Unreachable:
    """No answer came."""
    problem = str(error) or type(error).__name__
    return Unreachable(f"The server at {_origin(error.request.url)} cannot be used: {problem}")


def refused(answer: httpx.Response, repeated: bool = False) -> Unreachable:
    """The answer is no success. Raises Rejected if it is the request that is wrong."""
    problem = rejected(answer)
    if 400 <= answer.status_code < 500 and answer.status_code != 429:
        problem.repeated = repeated
        raise problem
    text = f"The server at {_origin(answer.url)} cannot be used: {problem.detail}"
    return Unreachable(text, problem)


def pause_s(n: int, retry_after: str | None = None) -> float:
    """Seconds before try `n` + 1."""
    wait_s = full_jitter(n - 1, random.random(), base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S)
    asked_s = retry_after_s(retry_after, time.time())
    # On top: callers that were all sent away together must not all come back together.
    return wait_s if asked_s is None else wait_s + min(asked_s, RETRY_AFTER_CAP_S)


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def rejected(answer: httpx.Response) -> Rejected:
    """A refusal in the server's words, or the proxy's that stands before it."""
    status = answer.status_code
    try:
        body: dict[str, Any] = answer.json()
        faults = tuple(
            Fault(fault["pointer"], fault["code"], fault["detail"])
            for fault in body.get("errors", ())
        )
        return Rejected(
            status,
            body["code"],
            body["detail"],
            faults=faults,
            instance=body.get("instance"),
            retryable=body.get("retryable", False),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return Rejected(status, "unknown", f"It answered with status {status}.")
