"""What Ctrl-C does.

A KeyboardInterrupt during an import or at exit prints a traceback, and in an unlucky place Python
swallows it. So Ctrl-C ends the process at once, except while a command runs that has something to
put in order: a job to cancel, half a file to remove, a cursor to restore.
"""

import os
import signal
from types import FrameType

from stillmotion.cli.exit_status import ExitStatus


def exit_at_once() -> None:
    """End the process on Ctrl-C without cleaning up."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so with `nohup`
        signal.signal(signal.SIGINT, _exit)


def raise_keyboard_interrupt() -> None:
    """Let the running command handle Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(ExitStatus.INTERRUPTED)
