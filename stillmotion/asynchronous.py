"""The client for asyncio."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, closing
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from stillmotion import catalog, events, jobs, webhook_calls
from stillmotion.connection import Connection, as_items, as_method
from stillmotion.wire import Flow, Item, Items, Open, Read, Request, Send, Sleep, Step, Work

P = ParamSpec("P")
T = TypeVar("T")


def _call(
    describe: Callable[P, Flow[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with aclosing(self._items(as_items(describe(*args, **kwargs)))) as items:
            return await anext(items)

    return as_method(method, describe)


def _iterate(
    describe: Callable[P, Items[T]],
) -> Callable[Concatenate["AsyncClient", P], AsyncGenerator[T, None]]:
    def method(
        self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[T, None]:
        return self._items(describe(*args, **kwargs))

    return as_method(method, describe)


class AsyncClient:
    """`Client` for `await` and `async for`. Tasks of one event loop may share it."""

    def __init__(
        self, server: str | None = None, api_key: str | None = None, timeout_s: float = 30.0
    ):
        self._connection = Connection(server, api_key, timeout_s)
        self._http = httpx.AsyncClient(**self._connection.options)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

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

    async def _items(self, flow: Items[T]) -> AsyncGenerator[T, None]:
        """Carry out a flow's steps and yield its items."""
        with closing(flow):
            async with aclosing(_Steps(self._http, self._connection)) as steps:
                try:
                    step = next(flow)
                    while True:
                        if isinstance(step, Item):
                            yield step.value
                            step = next(flow)
                            continue
                        try:
                            done = await steps.do(step)
                        except httpx.RequestError as error:
                            step = flow.throw(error)
                        else:
                            step = flow.send(done)
                except StopIteration:
                    return


class _Steps:
    """The steps of one flow."""

    def __init__(self, http: httpx.AsyncClient, connection: Connection):
        self._http = http
        self._connection = connection
        self._response: httpx.Response | None = None  # the open one
        self._bytes: AsyncIterator[bytes] | None = None

    async def do(self, step: Step) -> Any:
        """Raises httpx.RequestError and whatever Work raises."""
        match step:
            case Send(request):
                return await self._http.send(self._built(request))
            case Open(request):
                return await self._open(request)
            case Read():
                return b"" if self._bytes is None else await anext(self._bytes, b"")
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Work(do):
                return await asyncio.to_thread(do)
        return None

    async def aclose(self) -> None:
        if self._response is not None:
            await self._response.aclose()

    async def _open(self, request: Request) -> httpx.Response:
        await self.aclose()
        self._response = await self._http.send(self._built(request), stream=True)
        if not self._response.is_success:
            await self._response.aread()
        self._bytes = self._response.aiter_bytes()
        return self._response

    def _built(self, request: Request) -> httpx.Request:
        return self._http.build_request(**self._connection.arguments(request))
