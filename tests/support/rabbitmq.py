"""A private RabbitMQ: not a system service, loopback only."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks.harness.rabbitmq import RabbitMQNode
from tests.support import services


class RabbitMQ:
    """A broker that can be stopped and restarted with the same directory and port."""

    def __init__(self, directory: Path):
        ports = (services.free_port(), services.free_port(), services.free_port())
        self._node = RabbitMQNode(directory, ports)
        self.url = self._node.url
        self._process = contextlib.ExitStack()

    def start(self) -> None:
        child = self._process.enter_context(
            services.process(
                self._node.argv,
                env=self._node.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        services.wait_until(self._node.answers, child, timeout_s=90)

    def stop(self) -> None:
        self._process.close()

    def queue_types(self) -> dict[str, str]:
        """The type of every queue, by its name."""
        listed = self.control("list_queues", "--no-table-headers", "name", "type")
        return dict(line.split("\t") for line in listed.splitlines())

    def control(self, *command: str) -> str:
        """Run a command of rabbitmqctl; returns what it prints."""
        tool = self._node.argv[0].with_name("rabbitmqctl")
        return subprocess.run(
            [tool, "--quiet", *command],
            env=self._node.env,
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        ).stdout

    def close(self) -> None:
        self.stop()
        self._node.end_port_mapper()


@contextlib.contextmanager
def rabbitmq() -> Iterator[RabbitMQ]:
    """A running broker. Raises StackError if none is installed."""
    with tempfile.TemporaryDirectory(prefix="stillmotion-rabbit-") as directory:
        broker = RabbitMQ(Path(directory))
        try:
            broker.start()
            yield broker
        finally:
            broker.close()
