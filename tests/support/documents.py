"""Parsed documents: their fenced blocks, links and headings."""

import re
from dataclasses import dataclass

from tests.support.services import ROOT

GUIDES = ("README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/guides/*.md")))

_HEADING_OR_BLOCK = re.compile(r"^#{1,6} ([^\n]+)$|^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^(?: {4}|\t)(?! *(?:[-*]|\d+\.) )\S", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Place:
    """The position of a block: its document, the heading above it, and its number under that."""

    document: str
    heading: str
    number: int


def read(document: str) -> str:
    return (ROOT / document).read_text()


def blocks(document: str) -> dict[Place, str]:
    """Every fenced block of a document."""
    found: dict[Place, str] = {}
    heading, number = "", 0
    for match in _HEADING_OR_BLOCK.finditer(read(document)):
        if match[1] is not None:
            heading, number = match[1], 0
        else:
            found[Place(document, heading, number)] = match[3]
            number += 1
    return found


def prose(document: str) -> str:
    """A document without its fenced blocks."""
    return _HEADING_OR_BLOCK.sub(lambda m: m[0] if m[1] else "", read(document))


def indented_blocks(document: str) -> list[str]:
    """Lines of code blocks that are indented instead of fenced."""
    return _INDENTED.findall(prose(document))


def links(document: str) -> list[str]:
    """The targets of a document's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(document))


def anchors(document: str) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in headings}


def paths(document: str) -> set[str]:
    """Paths of this repository that a document mentions in code quotes."""
    rooms = "app|workers|stillmotion|scripts|tests|migrations|docs"
    return set(re.findall(rf"`((?:{rooms})/[\w./-]*)`", prose(document)))
