"""Messages that nobody sends on purpose: for queues, and for channels."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import kombu

from app.domain.job.messages import RENDER

ODD = [None, True, 0, -1, 10**400, 0.5, "", "x", "\u00e9", [], {}, [None], {"a": 1}]


def bodies() -> Iterator[bytes]:
    """Bodies of a message whose headers are those of a render."""
    yield from (b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[[], {}", b"9" * 5000)
    yield from (json.dumps(odd).encode() for odd in ODD)
    job_id, follow = str(uuid4()), {"callbacks": None, "errbacks": None, "chain": None}
    for odd in ODD:
        for parts in (
            *([odd, {}, follow], [[job_id, 1], odd or 1, follow], [[job_id, 1], {}, odd or [1]]),
            *([[odd, 1], {}, follow], [[job_id, odd or "0"], {}, follow]),
            [[job_id, 1], {}, follow | {"chain": odd or 1}],
        ):
            yield json.dumps(parts).encode()
    yield json.dumps([[job_id], {}, follow]).encode()
    yield json.dumps([[job_id, 1, 2], {}, follow]).encode()
    yield json.dumps({"task": RENDER, "id": job_id, "args": [job_id, 1]}).encode()


def headers() -> Iterator[dict[str, Any]]:
    """Headers of a message whose body is a render's."""
    name = str(uuid4())
    tables = [odd for odd in ODD if odd != 10**400]  # AMQP has no such number
    for odd in tables:
        yield {"id": name, "task": odd}
        yield {"id": "" if isinstance(odd, str) else odd, "task": RENDER}
    yield from ({}, {"id": name}, {"task": RENDER}, {"id": name, "task": "stillmotion.other"})
    yield {"id": name, "task": RENDER, "compression": "none of them"}


def publish_all(url: str, queue: str) -> int:
    """Send every kind to a queue, through Redis or RabbitMQ. Returns how many."""
    sound = {"lang": "py", "task": RENDER, "id": str(uuid4())}
    body = json.dumps([[str(uuid4()), 1], {}, {}]).encode()
    sent = [(sound, each) for each in bodies()] + [(each, body) for each in headers()]
    with kombu.Connection(url) as connection, connection.Producer() as producer:
        for head, content in sent:
            producer.publish(
                content,
                exchange="",
                routing_key=queue,
                headers=head,
                content_type="application/json",
                content_encoding="utf-8",
            )
        kinds = ["application/x-python-serialize", "text/plain", "no/such", ""]
        if url.startswith("amqp"):
            kinds.append(b"\xff\xfe")
        for kind in kinds:
            producer.publish(
                body,
                exchange="",
                routing_key=queue,
                headers=sound,
                content_type=kind,
                content_encoding="rot13",
            )
    return len(sent) + len(kinds)


def entries() -> list[bytes]:
    """Entries of a Redis list that are no messages of kombu's."""
    found = [b"", b"x", b"\xff\xfe\x00", b"{", b"[" * 100_000, b"9" * 5000]
    found += [json.dumps(odd).encode() for odd in ODD]
    sound = {
        "body": "W10=",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "t",
            "delivery_info": {"exchange": "", "routing_key": "q"},
        },
    }
    for name in sound:
        found += [json.dumps(sound | {name: odd}).encode() for odd in ODD]
    for name in sound["properties"]:
        for odd in ODD:
            found.append(
                json.dumps(sound | {"properties": sound["properties"] | {name: odd}}).encode()
            )
    return found
