"""Kinds of calls: one object, a short list, a long list in pages, a removal."""

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from stillmotion.errors import Rejected, UnexpectedResponse
from stillmotion.models import ApiModel
from stillmotion.wire import TRIES, Flow, Item, Items, Request, exchange, source_of

PAGE = 100  # the API's maximum

M = TypeVar("M", bound=ApiModel)


def quoted(value: object) -> str:
    """A value as one segment of a path."""
    return quote(str(value), safe="")


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def json_body(**fields: Any) -> dict[str, Any]:
    """A JSON body, in the form that `Request.content` takes."""
    return {"json": fields}


def fetch(kind: type[M], request: Request, tries: int = TRIES) -> Flow[M]:
    return parse(kind, (yield from exchange(request, tries)))


def parse(kind: type[M], response: httpx.Response) -> M:
    """Raises UnexpectedResponse."""
    source = source_of(response)
    try:
        value = response.json()
    except ValueError:
        raise UnexpectedResponse(source, "not JSON") from None
    return kind.of(value, source)


def fetch_list(kind: type[M], path: str) -> Flow[list[M]]:
    page = yield from fetch(_Page, Request("GET", path))
    return [kind.of(item, path) for item in page.data]


class _Page(ApiModel):
    data: list[Any]
    next: str | int | None = None


def fetch_pages(kind: type[M], path: str, query: Mapping[str, Any], limit: int | None) -> Items[M]:
    query = without_none(query)
    left = float("inf") if limit is None else limit
    while left > 0:
        params = query | {"limit": int(min(left, PAGE))}
        page = yield from fetch(_Page, Request("GET", path, {"params": params}))
        for item in page.data:
            yield Item(kind.of(item, path))
        left -= len(page.data)
        if page.next is None:
            return
        query["after"] = page.next


def remove(path: str, gone: str) -> Flow[None]:
    """DELETE. `gone` is the refusal's code if an earlier try has removed it already."""
    try:
        yield from exchange(Request("DELETE", path))
    except Rejected as error:
        if error.code != gone or not error.repeated:
            raise
