"""Kinds of calls: one answer, all of a short list, the pages of a long one, a removal."""

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from stillmotion.answers import Answer, json_of
from stillmotion.errors import Rejected
from stillmotion.wire import TRIES, Flow, Item, Items, Request, exchange

PAGE = 100  # the most that the API gives

A = TypeVar("A", bound=Answer)


def quoted(value: object) -> str:
    """As a part of a path."""
    return quote(str(value), safe="")


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def body_of(**fields: Any) -> dict[str, Any]:
    """A request's JSON, as `Request.content` has it."""
    return {"json": fields}


def ask(kind: type[A], request: Request, tries: int = TRIES) -> Flow[A]:
    answer = yield from exchange(request, tries)
    return kind.of(json_of(answer))


def ask_all(kind: type[A], path: str) -> Flow[list[A]]:
    page = yield from ask(_Page, Request("GET", path))
    return [kind.of(item) for item in page.data]


class _Page(Answer):
    data: list[Any]
    next: str | int | None = None


def pages(kind: type[A], path: str, query: Mapping[str, Any], limit: int | None) -> Items[A]:
    query = given(query)
    left = float("inf") if limit is None else limit
    while left > 0:
        asked = {"params": query | {"limit": int(min(left, PAGE))}}
        page = yield from ask(_Page, Request("GET", path, asked))
        for item in page.data:
            yield Item(kind.of(item))
        left -= len(page.data)
        if page.next is None:
            return
        query["after"] = page.next


def remove(path: str, gone: str) -> Flow[None]:
    """DELETE. What the try before this one has removed is removed."""
    try:
        yield from exchange(Request("DELETE", path))
    except Rejected as error:
        if error.code != gone or not error.repeated:
            raise
