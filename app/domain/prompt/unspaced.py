"""Chinese and Japanese: text without spaces, cut into the longest words that a table has."""

import unicodedata
from collections.abc import Iterator, Mapping

from app.domain.prompt.languages.chinese import CHINESE
from app.domain.prompt.languages.japanese import JAPANESE
from app.domain.prompt.languages.table import fold

Segment = tuple[str, tuple[str, ...], bool]  # as written, entries, whether a function word
_FUNCTION = ("function",)
_RANGES = (
    ("\u3005", "\u3007"),
    ("\u3040", "\u30ff"),  # kana
    ("\u31f0", "\u31ff"),
    ("\u3400", "\u9fff"),  # Han
    ("\uf900", "\ufaff"),
    ("\uff66", "\uff9f"),  # kana of half width
    ("\U00020000", "\U0003ffff"),
)


def _merged(*tables: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Later tables win."""
    return {
        fold(word): tuple(entries.split()) for table in tables for word, entries in table.items()
    }


_TABLES = {False: _merged(JAPANESE, CHINESE), True: _merged(CHINESE, JAPANESE)}
_LONGEST = max(len(word) for table in _TABLES.values() for word in table)


def is_unspaced(char: str) -> bool:
    return char > "\u3004" and any(first <= char <= last for first, last in _RANGES)


def is_noun_script(char: str) -> bool:
    """Whether it is Han or Katakana: Japanese adverbs mostly are Hiragana."""
    return _script(char) != "hiragana"


def is_verb_last(word: str) -> bool:
    """Whether it is Japanese by its kana, so that objects stand before their verb."""
    return any("\u3040" <= char <= "\u30ff" for char in word)


def segments(text: str, *, japanese: bool) -> Iterator[Segment]:
    """Cut a run of Han and kana. `japanese`: which reading a word of both languages has."""
    units = list(_units(text))
    plain = "".join(unit for unit, _ in units)
    starts: list[tuple[int, tuple[str, ...] | None]] = []
    table = _TABLES[japanese]
    at = 0
    while at < len(plain):
        for length in range(min(_LONGEST, len(plain) - at), 0, -1):
            entries = table.get(plain[at : at + length])
            if entries is not None:
                starts.append((at, entries))
                at += length
                break
        else:
            if not starts or starts[-1][1] is not None:
                starts.append((at, None))
            at += 1
    ends = [start for start, _ in starts[1:]] + [len(plain)]
    found = [(start, end, entries) for (start, entries), end in zip(starts, ends, strict=True)]
    for start, end, entries in _whole(plain, found):
        written = "".join(source for _, source in units[start:end])
        function = entries == _FUNCTION
        yield written, () if function or entries is None else entries, function


Piece = tuple[int, int, tuple[str, ...] | None]


def _whole(plain: str, pieces: list[Piece]) -> list[Piece]:
    """The pieces without words that are part of a longer, unknown one.

    A single Han character next to unknown ones is not a word, as in a name; nor are Katakana next
    to unknown Katakana, as "pan" in "furaipan", a frying pan.
    """
    found: list[Piece] = []
    for n, (start, end, entries) in enumerate(pieces):
        if entries is not None and entries != _FUNCTION:
            joins = _joins(plain, start, end, pieces[n - 1] if n else None, left=True) or _joins(
                plain, start, end, pieces[n + 1] if n + 1 < len(pieces) else None, left=False
            )
            entries = None if joins else entries
        if entries is None and found and found[-1][2] is None:
            found[-1] = (found[-1][0], end, None)
        else:
            found.append((start, end, entries))
    return found


def _joins(plain: str, start: int, end: int, other: Piece | None, *, left: bool) -> bool:
    """Whether the word from start to end is one with an unknown neighbour."""
    if other is None or other[2] is not None:
        return False
    mine, theirs = (plain[start], plain[start - 1]) if left else (plain[end - 1], plain[end])
    script = _script(mine)
    if script != _script(theirs):
        return False
    return script == "katakana" or (script == "han" and end - start == 1)


def _script(char: str) -> str:
    if "\u30a0" <= char <= "\u30ff":
        return "katakana"
    return "hiragana" if "\u3040" <= char <= "\u309f" else "han"


def _units(text: str) -> Iterator[tuple[str, str]]:
    """Folded characters, each with its source. Marks of half width join what they follow."""
    pending: tuple[str, str] | None = None
    for char in text:
        plain = unicodedata.normalize("NFKC", char)
        if pending and len(pending[0]) == 1 and plain in ("\u3099", "\u309a"):
            pending = (unicodedata.normalize("NFC", pending[0] + plain), pending[1] + char)
            continue
        if pending:
            yield from _spread(*pending)
        pending = (fold(char) or char, char)
    if pending:
        yield from _spread(*pending)


def _spread(plain: str, source: str) -> Iterator[tuple[str, str]]:
    """One character may fold to several; the first has the source."""
    for n, char in enumerate(plain):
        yield char, source if n == 0 else ""
