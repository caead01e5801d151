"""A real S3 server: OpenStack Swift with its S3 API, all four servers in one process.

Unlike the usual emulators it checks signatures and expiry. It runs in a separate process, because
eventlet replaces parts of the standard library. It needs a file system with user attributes
(ext4, xfs, btrfs).
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCESS_KEY = "test:tester"
SECRET_KEY = "testing"
PAGE = 5  # objects per page of a listing; S3 has 1000, too many for a test to fill

SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = tests
"""

BACKEND_CONF = """
[DEFAULT]
devices = {devices}
swift_dir = {home}
mount_check = false
fallocate_reserve = 0
[app:main]
use = egg:swift#{kind}
"""

# No cache middleware or memcached: tempauth needs it only for tokens, which S3 does not use.
PROXY_CONF = f"""
[DEFAULT]
swift_dir = {{home}}
[pipeline:main]
pipeline = s3api tempauth bulk slo proxy-server
[filter:s3api]
use = egg:swift#s3api
max_bucket_listing = {PAGE}
[filter:tempauth]
use = egg:swift#tempauth
user_{{user}} = {{secret_key}} .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


@dataclass(frozen=True)
class SwiftServer:
    """The address of a running server; its keys are ACCESS_KEY and SECRET_KEY."""

    endpoint_url: str
    pid: int


@contextlib.contextmanager
def swift_server(*, delay_s: float = 0.0) -> Iterator[SwiftServer]:
    """Run a server with an empty disk until the block ends; each call waits for `delay_s` first.

    Raises:
        ImportError: swift is not installed.
        RuntimeError: it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="swift-") as home:
        log = Path(home, "log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, __file__, home, "--delay", str(delay_s)],
                stdin=subprocess.PIPE,  # end of file tells the server that we are gone
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert process.stdin is not None and process.stdout is not None
        with process, process.stdin, process.stdout:
            line = process.stdout.readline()
            if not line:
                text = log.read_text()
                missing = "ModuleNotFoundError" in text
                raise (ImportError if missing else RuntimeError)(text[-2000:])
            yield SwiftServer(json.loads(line)["endpoint_url"], process.pid)


class _Cache:
    """What memcached is to a larger Swift: it does not read account and bucket for each call."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Any]] = {}

    def get(self, key: str, **_: object) -> Any:
        until, value = self._kept.get(key, (0.0, None))
        return value if time.monotonic() < until else None

    def set(self, key: str, value: Any, **options: Any) -> None:
        self._kept[key] = (time.monotonic() + (options.get("time") or 3600.0), value)

    def delete(self, key: str, **_: object) -> None:
        self._kept.pop(key, None)


def serve(
    home: Path,
    listen: tuple[str, int],
    delay_s: float = 0.0,
    access_key: str = ACCESS_KEY,
    secret_key: str = SECRET_KEY,
) -> None:
    """Run the four servers, S3 at `listen`, until stdin ends; print the S3 endpoint.

    `delay_s`: what each call of S3 takes at least.
    """
    import eventlet

    eventlet.monkey_patch()
    from eventlet import wsgi
    from swift.common.http_protocol import SwiftHttpProtocol
    from swift.common.ring import RingData
    from swift.common.utils import NullLogger, set_swift_dir
    from swift.common.wsgi import loadapp

    (home / "swift.conf").write_text(SWIFT_CONF)
    (home / "devices" / "disk").mkdir(parents=True, exist_ok=True)
    # Before any app is loaded: they would look for /etc/swift/swift.conf.
    set_swift_dir(str(home))

    def delayed(app: Callable[..., object]) -> Callable[..., object]:
        cache = _Cache()

        def answer(environ: dict[str, object], *more: object) -> object:
            eventlet.sleep(delay_s)
            environ["swift.cache"] = cache
            return app(environ, *more)

        return answer if delay_s else app

    def run(kind: str, conf: str, listener: Any) -> None:
        path = home / f"{kind}.conf"
        values: dict[str, object] = {"home": home, "devices": home / "devices"}
        values |= {"user": access_key.replace(":", "_"), "secret_key": secret_key}
        path.write_text(conf.format(kind=kind, **values))
        app = loadapp(str(path), global_conf={"log_name": kind})
        if kind == "proxy":
            app = delayed(app)
        eventlet.spawn(
            wsgi.server,
            listener,
            app,
            NullLogger(),
            protocol=SwiftHttpProtocol,
            # Otherwise the case of metadata keys and ETag differs from S3's.
            capitalize_response_headers=False,
        )

    listeners = {}
    for kind in ("account", "container", "object"):
        listeners[kind] = eventlet.listen(("127.0.0.1", 0))
        device = {
            "id": 0,
            "region": 1,
            "zone": 1,
            "ip": "127.0.0.1",
            "port": listeners[kind].getsockname()[1],
            "device": "disk",
            "weight": 1.0,
        }
        # One replica and 2 ** (32 - 30) partitions, all on one device.
        RingData([[0] * 4], [device], 30).save(str(home / f"{kind}.ring.gz"))
    for kind, listener in listeners.items():
        run(kind, BACKEND_CONF, listener)
    front = eventlet.listen(listen)
    run("proxy", PROXY_CONF, front)

    host, port = front.getsockname()
    print(json.dumps({"endpoint_url": f"http://{host}:{port}"}), flush=True)
    eventlet.hubs.trampoline(sys.stdin.fileno(), read=True)
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path, help="an empty directory for configuration and data")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each call takes")
    parser.add_argument("--access-key", default=ACCESS_KEY, help="has the form ACCOUNT:USER")
    parser.add_argument("--secret-key", default=SECRET_KEY)
    given = parser.parse_args()
    host, _, port = given.listen.partition(":")
    listen = (host, int(port))
    serve(given.home, listen, given.delay, given.access_key, given.secret_key)
