"""The command's exit statuses."""

from enum import IntEnum


class ExitStatus(IntEnum):
    OK = 0
    JOB_FAILED = 1
    USAGE = 2  # click's own
    UNREACHABLE = 3
    REJECTED = 4
    CANCELED = 5
    NO_PLAN = 6
    NO_CREDENTIALS = 7
    DISAGREE = 8
    NOT_INSTALLED = 69  # EX_UNAVAILABLE of sysexits.h
    CONFIG = 78  # EX_CONFIG, as for every process with a wrong configuration
    INTERRUPTED = 130  # 128 + SIGINT


HELP = """\b
Exit status:
    0  success
    1  the job failed or expired
    2  wrong usage, or a file that cannot be read or written
    3  the server or database is unreachable, or --timeout has passed
    4  the server refused the request
    5  the job was canceled
    6  no plan meets the demand
    7  a clip has no content credentials, was changed after signing, or its
       signer is not trusted
    8  rows and objects disagree
   69  the command is part of the server, which is not installed
   78  wrong configuration
  130  interrupted by Ctrl-C

\b
With --json, stdout holds one JSON document, or one per line for lists and
events. Progress and errors go to stderr. NO_COLOR is honoured.
"""
