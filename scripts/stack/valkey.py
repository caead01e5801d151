"""Valkey for one machine."""

import signal
import socket

from scripts.stack import supervisor
from scripts.stack.data import DataDir
from scripts.stack.programs import CLEAN_ENV, VALKEY, end_orphan
from scripts.stack.supervisor import Spec
from scripts.stack.user import give, put, server_user


class Valkey:
    """One Valkey in `<data>/<name>`: loopback only, with a password, every write logged to disk."""

    def __init__(self, data: DataDir, port: int, name: str = "valkey"):
        self.name = name
        folder = give(data.folder(name.replace(":", "-")), server_user())
        self._password = data.secret("valkey_password")
        self._port = port
        self.url = f"redis://:{self._password}@127.0.0.1:{port}/0"
        put(
            folder / "valkey.conf",  # not arguments, which everybody can see
            f"bind 127.0.0.1\nport {port}\nrequirepass {self._password}\n"
            'dir .\npidfile valkey.pid\nappendonly yes\nsave ""\n',
            server_user(),
        )
        end_orphan(folder / "valkey.pid", signal.SIGTERM)
        self.spec = Spec(
            name=self.name,
            argv=[VALKEY.find(data), "valkey.conf"],
            env=CLEAN_ENV,
            cwd=folder,
            stage=supervisor.VALKEY,
            user=server_user(),
        )

    def ready(self, pid: int) -> bool:
        """Whether the server accepts commands, which it does once its log is loaded."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    chunk = connection.recv(100)
                    if not chunk:
                        return False
                    answer += chunk
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"
