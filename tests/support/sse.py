"""A reader of server-sent events, by the HTML standard, that records their arrival times."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Event:
    name: str
    data: Any
    id: str | None
    at: float  # Unix seconds


def events(lines: Iterator[str]) -> Iterator[Event]:
    """The events in a stream's lines; skips comments and `retry`."""
    name, data, position = "message", "", None
    for line in lines:
        if line:
            field, _, value = line.partition(": ")
            match field:
                case "event":
                    name = value
                case "data":
                    data += value
                case "id":
                    position = value
        elif data:
            yield Event(name, json.loads(data), position, time.time())
            name, data, position = "message", "", None


def read(url: str, key: str, *, last: str | None = None, timeout_s: float = 60.0) -> list[Event]:
    """Every event of one stream until it ends."""
    headers = {"Authorization": f"Bearer {key}"} | ({"Last-Event-ID": last} if last else {})
    with httpx.stream("GET", url, headers=headers, timeout=timeout_s) as answer:
        answer.raise_for_status()
        return list(events(answer.iter_lines()))
