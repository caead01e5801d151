"""Requests and their retries, without any I/O.

A flow is a generator. It yields steps, receives the result of each, and returns what a client's
method returns. A method that iterates yields items between its steps. `Client` and `AsyncClient`
differ only in how they carry out the steps.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

import httpx

from stillmotion.backoff import full_jitter, retry_after_s
from stillmotion.errors import FieldError, Rejected, UnexpectedResponse, Unreachable

TRIES = 6  # outlasts an outage of some seconds, or longer if the server asks for more
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.25, 8.0
RETRY_AFTER_CAP_S = 30.0
RETRIED = frozenset({429, 502, 503, 504})
# With a body that is not ours, these come from a server that does not know the API's paths.
NO_SUCH_API = frozenset({301, 302, 303, 307, 308, 404, 405, 501})

T = TypeVar("T")


class Repeat(Enum):
    """When to send a request again after a failed try."""

    SAFE = "safe"  # always: doing it twice has the effect of doing it once
    UNSENT = "unsent"  # only if the server cannot have done it


@dataclass(frozen=True)
class Request:
    """One request. A `signed` one has a whole URL as its `path` and needs no key.

    `timeout_s` replaces the client's limit for each wait for the server, and `silence_s` extends it
    for the response.
    """

    method: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)  # as httpx takes it
    repeat: Repeat = Repeat.SAFE
    signed: bool = False
    timeout_s: float | None = None
    silence_s: float = 0.0


@dataclass(frozen=True)
class Send:
    """Send a request and read the whole response. Raises httpx.RequestError into the flow."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send a request and leave the body of a successful response to Read.

    Only one response is open at a time: the next Open, or the end of the flow, closes it.
    """

    request: Request


@dataclass(frozen=True)
class Read:
    """Read the next bytes of the open response; b"" at its end."""


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Work:
    """Call a function that blocks, such as file I/O."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Item(Generic[T]):
    """Not a step: a value for a caller who iterates."""

    value: T


Step = Send | Open | Read | Sleep | Work
Flow = Generator[Step, Any, T]
Items = Generator[Step | Item[T], Any, None]


def exchange(request: Request, tries: int = TRIES) -> Flow[httpx.Response]:
    """Send a request, and repeat it up to `tries` times in all while that is safe.

    Raises Rejected (`repeated` says whether an earlier try may have taken effect), Unreachable
    and UnexpectedResponse.
    """
    repeated = False
    for n in range(1, tries + 1):
        retry_after = None
        try:
            response: httpx.Response = yield Send(request)
        except httpx.RequestError as error:
            failure = no_response(error)
            unsent = isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
            )
            repeated = repeated or not unsent
            again = unsent or request.repeat is Repeat.SAFE
        else:
            if response.is_success:
                return response
            failure = unsuccessful(response, repeated)
            # A 429 was not carried out. The others may come from a proxy that lost the response.
            again = response.status_code == 429 or (
                response.status_code in RETRIED and request.repeat is Repeat.SAFE
            )
            repeated = repeated or response.status_code != 429
            retry_after = response.headers.get("Retry-After")
        if n == tries or not again:
            raise failure
        yield Sleep(retry_delay_s(n, retry_after))
    raise AssertionError("unreachable")


def no_response(error: httpx.RequestError) -> Unreachable:
    problem = str(error) or type(error).__name__
    return Unreachable(f"The server at {_origin(error.request.url)} is not reachable: {problem}")


def unsuccessful(response: httpx.Response, repeated: bool = False) -> Unreachable:
    """The error for a response that another try may avoid.

    Raises Rejected if the request itself is at fault, and UnexpectedResponse if the response comes
    from something else.
    """
    problem = read_problem(response)
    if 400 <= response.status_code < 500 and response.status_code != 429:
        problem.repeated = repeated
        raise problem
    text = f"The server at {_origin(response.url)} is not available: {problem.detail}"
    return Unreachable(text, problem)


def retry_delay_s(n: int, retry_after: str | None = None) -> float:
    """Seconds before try `n` + 1."""
    wait_s = full_jitter(n - 1, random.random(), base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S)
    asked_s = retry_after_s(retry_after, time.time())
    # Added to the jitter: callers that were turned away together must not return together.
    return wait_s if asked_s is None else wait_s + min(asked_s, RETRY_AFTER_CAP_S)


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def source_of(response: httpx.Response) -> str:
    """The URL that responded, without its query, which may hold a signature."""
    return f"{_origin(response.url)}{response.url.path}"


def read_problem(response: httpx.Response) -> Rejected:
    """The refusal in the words of the server, or of a proxy in front of it.

    Raises UnexpectedResponse.
    """
    status = response.status_code
    try:
        body: dict[str, Any] = response.json()
        errors = tuple(
            FieldError(error["pointer"], error["code"], error["detail"])
            for error in body.get("errors", ())
        )
        return Rejected(
            status,
            body["code"],
            body["detail"],
            errors=errors,
            instance=body.get("instance"),
            retryable=body.get("retryable", False),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        if status in NO_SUCH_API and "Authorization" in response.request.headers:
            target = response.headers.get("Location")
            moved = f" to {target}" if target else ""
            raise UnexpectedResponse(source_of(response), f"status {status}{moved}") from None
        return Rejected(status, "unknown", f"It responded with status {status}.")
