"""A webhook receiver for the tests."""

import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread


class Receiver:
    """An HTTP server with scripted responses by path, which records every request.

    `answers[path]` is a list of (status, headers); the last one repeats. Status 0: never respond.
    """

    def __init__(self):
        self.answers = defaultdict(lambda: [(204, {})])
        self.requests = defaultdict(list)  # path -> (headers, body, time of arrival)
        self._came = Condition()
        self._closing = Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver._came:
                    receiver.requests[self.path].append((headers, body, time.monotonic()))
                    script = receiver.answers[self.path]
                    status, extra = script.pop(0) if len(script) > 1 else script[0]
                    receiver._came.notify_all()
                if status == 0:
                    receiver._closing.wait(60)
                    return
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def do_GET(self):
                receiver.requests[self.path].append(("GET", b"", time.monotonic()))
                self.send_error(500)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://{self.address}{path}"

    def wait(self, path, count=1, timeout_s=20.0):
        """The first `count` requests to `path`."""
        with self._came:
            came = self._came.wait_for(lambda: len(self.requests[path]) >= count, timeout_s)
            assert came, f"{len(self.requests[path])} of {count} requests to {path}"
            return self.requests[path][:count]

    def close(self):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
