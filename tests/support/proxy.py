"""A TCP proxy that can lose a response."""

import contextlib
import socket
from threading import Event, Thread


class Proxy:
    """Forwards 127.0.0.1:`port` to `target`.

    After `lose_answer_to(pattern)`, the next request containing the bytes reaches the server, but
    its response is dropped and both connections are closed.
    """

    def __init__(self, target: tuple[str, int]):
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pattern: bytes | None = None
        self.cuts = 0
        Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, pattern: bytes) -> None:
        self._pattern = pattern

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target, timeout=10)
                server.settimeout(None)
                losing = Event()
                for source, sink, upward in ((client, server, True), (server, client, False)):
                    Thread(
                        target=self._pump, args=(source, sink, upward, losing), daemon=True
                    ).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, upward: bool, losing: Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if upward and self._pattern is not None and self._pattern in data:
                    self._pattern = None
                    losing.set()
                if not upward and losing.is_set():
                    self.cuts += 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
