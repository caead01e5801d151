"""A private RabbitMQ: not a system service, loopback only."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import kombu

from tests.support import services


class RabbitMQ:
    """A broker that can be stopped and restarted with the same directory and port."""

    def __init__(self, directory: Path):
        servers = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
        if not servers:
            raise services.Missing("rabbitmq-server is not installed")
        self._server = servers[-1] / "rabbitmq-server"
        self._port, epmd, peers = (services.free_port() for _ in range(3))
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        config = directory / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.local = 127.0.0.1:{self._port}\n")
        plugins = directory / "plugins"
        plugins.write_text("[].\n")
        self._env = os.environ | {
            "HOME": str(directory),  # the Erlang cookie
            "RABBITMQ_NODENAME": f"test-{self._port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_DIST_PORT": str(peers),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        self._process = contextlib.ExitStack()

    def start(self) -> None:
        child = self._process.enter_context(
            services.process(
                [self._server],
                env=self._env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        services.wait_until(self._answers, child, timeout_s=90)

    def stop(self) -> None:
        self._process.close()

    def close(self) -> None:
        self.stop()
        # Erlang's port mapper outlives the node that started it.
        epmd = shutil.which("epmd")
        if epmd is not None:
            subprocess.run([epmd, "-kill"], env=self._env, capture_output=True, check=False)

    def _answers(self) -> bool:
        with kombu.Connection(self.url, connect_timeout=2) as connection:
            connection.connect()
        return True


@contextlib.contextmanager
def rabbitmq() -> Iterator[RabbitMQ]:
    """A running broker. Raises Missing."""
    with tempfile.TemporaryDirectory(prefix="stillmotion-rabbit-") as directory:
        broker = RabbitMQ(Path(directory))
        try:
            broker.start()
            yield broker
        finally:
            broker.close()
