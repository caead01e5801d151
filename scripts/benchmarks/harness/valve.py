"""A TCP proxy that can silence, cut, delay or refuse the connections of one path."""

import contextlib
import socket
import time
from threading import Event, Lock, Thread
from urllib.parse import urlsplit


class _Link:
    """One connection through the valve."""

    def __init__(self, client: socket.socket, server: socket.socket):
        self.ends = (client, server)
        self.flowing = Event()
        self.flowing.set()

    def close(self) -> None:
        self.flowing.set()
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Valve:
    """Forwards 127.0.0.1:`port` to the host and port of `url`; `through` is the proxied URL.

    Data sent on a silent connection is kept and delivered when it flows again, as after a network
    partition. The kernel acknowledges every byte, so only the program's own time-out notices.
    """

    def __init__(self, url: str):
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.through = url.replace(f":{parts.port}/", f":{self.port}/")
        self.delay_s = 0.0  # of everything sent to the server
        self._links: list[_Link] = []
        self._lock = Lock()
        self._refusing = False
        self._new_flow = True
        Thread(target=self._accept, daemon=True).start()

    def lead_to(self, url: str) -> None:
        """Forward new connections to another server."""
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)

    def silence(self, *, new: bool = False) -> int:
        """Stop the flow of every connection; `new`: also of future ones. Returns their number."""
        with self._lock:
            self._new_flow = not new
            for link in self._links:
                link.flowing.clear()
            return len(self._links)

    def cut(self) -> int:
        """Close every connection; new ones work. Returns the number closed."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.close()
        return len(links)

    def refuse(self) -> None:
        """Close every connection, and new ones as soon as they arrive."""
        self._refusing = True
        self.cut()

    def heal(self) -> None:
        """Let everything flow again, delayed bytes first."""
        with self._lock:
            self._refusing, self._new_flow, self.delay_s = False, True, 0.0
            for link in self._links:
                link.flowing.set()

    def close(self) -> None:
        # A thread in accept() holds the port until it is woken.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refusing:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self._target, timeout=10)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                link = _Link(client, server)
                with self._lock:
                    if not self._new_flow:
                        link.flowing.clear()
                    self._links.append(link)
                for source, sink, upward in ((client, server, True), (server, client, False)):
                    pump = (link, source, sink, upward)
                    Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, upward: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if upward and self.delay_s:
                    time.sleep(self.delay_s)
                link.flowing.wait()
                sink.sendall(data)
        link.close()
        with self._lock, contextlib.suppress(ValueError):
            self._links.remove(link)
