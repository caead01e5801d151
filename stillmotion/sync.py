"""The blocking client."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from stillmotion import catalog, events, jobs, webhook_calls
from stillmotion.connection import Connection, as_items, as_method
from stillmotion.wire import Flow, Item, Items, Open, Read, Request, Send, Sleep, Step, Work

P = ParamSpec("P")
T = TypeVar("T")


def _call(describe: Callable[P, Flow[T]]) -> Callable[Concatenate["Client", P], T]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with closing(self._items(as_items(describe(*args, **kwargs)))) as items:
            return next(items)

    return as_method(method, describe)


def _iterate(describe: Callable[P, Items[T]]) -> Callable[Concatenate["Client", P], Iterator[T]]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._items(describe(*args, **kwargs))

    return as_method(method, describe)


class Client:
    """Talks to one server with one API key. Threads may share it.

    `server` and `api_key` default to STILLMOTION_SERVER and STILLMOTION_API_KEY; the constructor
    raises ConfigurationError if either is missing or malformed. `timeout_s` limits each wait for
    the server, not a call as a whole. Failed requests are repeated where that is safe. Every method
    documents what it raises (`help(Client.submit)`); all raise UnexpectedResponse if something
    other than Stillmotion responds.
    """

    def __init__(
        self, server: str | None = None, api_key: str | None = None, timeout_s: float = 30.0
    ):
        self._connection = Connection(server, api_key, timeout_s)
        self._http = httpx.Client(**self._connection.options)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    run = _call(jobs.run)
    submit = _call(jobs.submit)
    estimate = _call(jobs.estimate)
    upload = _call(jobs.upload)
    get = _call(jobs.get)
    list = _iterate(jobs.list_jobs)
    wait = _call(jobs.wait)
    events = _iterate(events.events)
    timeline = _call(jobs.timeline)
    cancel = _call(jobs.cancel)
    delete = _call(jobs.delete)
    download = _call(jobs.download)
    usage = _call(catalog.usage)
    models = _call(catalog.models)
    regions = _call(catalog.regions)
    workers = _call(catalog.workers)
    decide = _call(catalog.decide)
    audit = _iterate(catalog.audit)
    webhooks = _call(webhook_calls.webhooks)
    create_webhook = _call(webhook_calls.create_webhook)
    update_webhook = _call(webhook_calls.update_webhook)
    delete_webhook = _call(webhook_calls.delete_webhook)
    rotate_secret = _call(webhook_calls.rotate_secret)
    test_webhook = _call(webhook_calls.test_webhook)
    deliveries = _iterate(webhook_calls.deliveries)
    redeliver = _call(webhook_calls.redeliver)

    def _items(self, flow: Items[T]) -> Generator[T, None, None]:
        """Carry out a flow's steps and yield its items."""
        with closing(flow), closing(_Steps(self._http, self._connection)) as steps:
            try:
                step = next(flow)
                while True:
                    if isinstance(step, Item):
                        yield step.value
                        step = next(flow)
                        continue
                    try:
                        done = steps.do(step)
                    except httpx.RequestError as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(done)
            except StopIteration:
                return


class _Steps:
    """The steps of one flow."""

    def __init__(self, http: httpx.Client, connection: Connection):
        self._http = http
        self._connection = connection
        self._response: httpx.Response | None = None  # the open one
        self._bytes: Iterator[bytes] = iter(())

    def do(self, step: Step) -> Any:
        """Raises httpx.RequestError and whatever Work raises."""
        match step:
            case Send(request):
                return self._http.send(self._built(request))
            case Open(request):
                return self._open(request)
            case Read():
                return next(self._bytes, b"")
            case Sleep(seconds):
                time.sleep(seconds)
            case Work(do):
                return do()
        return None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()

    def _open(self, request: Request) -> httpx.Response:
        self.close()
        self._response = self._http.send(self._built(request), stream=True)
        if not self._response.is_success:
            self._response.read()
        self._bytes = self._response.iter_bytes()
        return self._response

    def _built(self, request: Request) -> httpx.Request:
        return self._http.build_request(**self._connection.arguments(request))
