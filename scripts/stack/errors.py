"""What can go wrong with the stack itself."""


class StackError(Exception):
    """One sentence for the person who started the stack."""


class DirectoryInUse(StackError):
    """Another live stack holds the data directory."""
