"""Errors of the stack itself."""


class StackError(Exception):
    """The stack failed. The message is one sentence for the person who started it."""


class DirectoryInUse(StackError):
    """Another live stack holds the data directory."""
