"""Errors of the benchmarks."""


class UnsupportedBroker(Exception):
    """The message is one sentence for the person who asked for it."""
