"""What a benchmark refuses."""


class UnsupportedBroker(Exception):
    """One sentence for the person who asked for it."""
