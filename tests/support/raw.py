"""Connections that send exactly the bytes that a test wants, when it wants them."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Raw:
    """One connection to a server."""

    def __init__(self, url: str, timeout_s: float = 20.0):
        at = urlsplit(url)
        self.sock = socket.create_connection((at.hostname, at.port), timeout=timeout_s)
        self._file = self.sock.makefile("rb")

    def send(self, *parts: str | bytes) -> "Raw":
        self.sock.sendall(b"".join(p.encode() if isinstance(p, str) else p for p in parts))
        return self

    def answer(self) -> Answer:
        """The next response; interim ones count."""
        line = self._file.readline().decode()
        if not line:
            raise ConnectionError("the server closed the connection")
        status = int(line.split()[1])
        headers = {}
        while (line := self._file.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self._file.read(int(headers.get("content-length", 0)))
        return Answer(status, headers, body)

    def ended(self) -> bool:
        """Whether the server closes the connection without a further byte."""
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.sock.close()


def head(method: str, path: str, key: str = "", **headers: object) -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: a.example"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines) + "\r\n\r\n"


@contextlib.contextmanager
def many(url: str, count: int, *parts: str) -> Iterator[list[Raw]]:
    """`count` connections that have sent the same and now wait."""
    opened: list[Raw] = []
    try:
        for _ in range(count):
            opened.append(Raw(url).send(*parts))
        yield opened
    finally:
        for one in opened:
            one.close()
