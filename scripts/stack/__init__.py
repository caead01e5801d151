"""The whole service on one machine: embedded servers, our processes, one supervisor."""

from scripts.stack.errors import DirectoryInUse, StackError
from scripts.stack.services import Services
from scripts.stack.stack import Stack

__all__ = ["DirectoryInUse", "Services", "Stack", "StackError"]
