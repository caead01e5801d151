"""A RabbitMQ node of our own: no system service, loopback only."""

import os
import shutil
import subprocess
from pathlib import Path

import kombu

from scripts.stack import StackError


class RabbitMQNode:
    """How to run a node that keeps its data in `directory`. The caller starts and ends it.

    `ports`: of AMQP, of Erlang's port mapper, and between nodes. Raises StackError if the server is
    not installed.
    """

    def __init__(self, directory: Path, ports: tuple[int, int, int]):
        servers = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
        if not servers:
            raise StackError("rabbitmq-server is not installed")
        port, mapper, peers = ports
        self.argv = [servers[-1] / "rabbitmq-server"]
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        config = directory / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.local = 127.0.0.1:{port}\n")
        plugins = directory / "plugins"
        plugins.write_text("[].\n")
        self.env = os.environ | {
            "HOME": str(directory),  # the Erlang cookie
            "RABBITMQ_NODENAME": f"test-{port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_DIST_PORT": str(peers),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def answers(self) -> bool:
        """Whether the node takes connections. Raises what the driver raises if it does not."""
        with kombu.Connection(self.url, connect_timeout=2) as connection:  # type: ignore[no-untyped-call]
            connection.connect()
        return True

    def end_port_mapper(self) -> None:
        """Erlang's port mapper outlives the node that started it."""
        mapper = shutil.which("epmd")
        if mapper is not None:
            subprocess.run([mapper, "-kill"], env=self.env, capture_output=True, check=False)
