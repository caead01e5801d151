"""What a process does before anything else."""

import os
import signal


def exit_on_sigterm() -> None:
    """End the process at once on SIGTERM, until it has a handler of its own.

    Without a handler the first process of a container ignores SIGTERM. Imports take a second and a
    model may take minutes to load, and there is nothing yet to finish or to hand back.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
