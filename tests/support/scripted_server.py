"""A server with scripted answers, for tests of the client."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

UNAVAILABLE = (503, {"Retry-After": "0"}, b'{"code": "database_unavailable", "detail": "Down."}')


class Script:
    """A server with one scripted answer per request; the last one repeats.

    An answer is (status, headers, body), or "cut", which reads the request and then closes the
    connection. A body shorter than its Content-Length is cut off as well.
    """

    def __init__(self):
        self.answers = []
        self.seen = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                length = int(self.headers.get("Content-Length", 0))
                script.seen.append((self.command, self.path, self.headers, self.rfile.read(length)))
                answers = script.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer == "cut":
                    self.close_connection = True
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in {"Content-Length": len(body), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def job(self, state="queued", **changes):
        return 200, {}, json.dumps(job_of(state) | changes).encode()

    def clip(self, size):
        output = {"url": f"{self.url}/clip?signature=s", "size_bytes": size}
        output |= {"expires_at": "2026-01-02T03:04:05Z", "content_type": "video/mp4"}
        return self.job("succeeded", output=output)


def job_of(state="queued"):
    """A job as the server's JSON shows it."""
    nothing = ("started_at", "finished_at", "deadline", "expires_at", "eta_seconds", "queue")
    nothing += ("output", "error", "webhook_url", "webhook_events")
    return dict.fromkeys(nothing) | {
        "id": "j1",
        "state": state,
        "terminal": state in ("succeeded", "failed"),
        "created_at": "2026-01-02T03:04:05Z",
        "retention_seconds": 60,
        "model": "noop",
        "prompt": "",
        **dict.fromkeys(("seed", "frames", "fps", "size", "priority"), 1),
        "motion": 1.0,
        "loop": False,
        "cost_units": 1.0,
        "region": {"home": "us-east", "policy": "ring", "allowed": None, "current": None},
        "progress": {"step": 1, "steps": 4},
        "metrics": dict.fromkeys(("queue", "render", "total", "predicted")),
        "metadata": {},
        "urls": {"self": "http://x/"},
    }
