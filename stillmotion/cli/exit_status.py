"""What the command's exit statuses mean."""

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
    CONFIG = 78  # EX_CONFIG of sysexits.h, as every process ends that is configured wrongly
    INTERRUPTED = 130  # 128 + SIGINT


HELP = """\b
Exit status:
    0  it worked
    1  the job failed or expired
    2  the command was used wrongly, or a file cannot be read or written
    3  the server or database cannot be reached, or --timeout has passed
    4  the server refused the request
    5  the job was canceled
    6  no plan meets the demand
    7  a clip has no content credentials, or was changed after they were signed
   78  the configuration is wrong
  130  interrupted by Ctrl-C

\b
With --json stdout has one JSON document, or one on each line where things are listed or watched.
Progress and complaints go to stderr. NO_COLOR is honoured.
"""
