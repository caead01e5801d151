"""The `stillmotion` command."""

import sys
from collections.abc import Sequence

from stillmotion.cli import interrupt
from stillmotion.cli.exit_status import ExitStatus

__all__ = ["ExitStatus", "main", "run"]


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status."""
    # Loaded here, so that `main` takes charge of Ctrl-C before it loads click.
    from stillmotion.cli import root

    return root.run(arguments)


def main() -> None:
    """The console script."""
    interrupt.exit_at_once()
    status = run(sys.argv[1:])
    interrupt.exit_at_once()
    sys.exit(status)
