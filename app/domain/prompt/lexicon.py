"""Which entries a word leads to, in the language that its neighbours are in.

No setting names the language. A form that several languages know, such as "no" (Portuguese for
"in the") or "die", is read in the one that knows most of the words between two punctuation marks.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from app.domain.prompt.languages.english import ENGLISH, FALSE_FRIENDS
from app.domain.prompt.languages.french import FRENCH
from app.domain.prompt.languages.german import COMPOUNDS, GERMAN
from app.domain.prompt.languages.portuguese import PORTUGUESE
from app.domain.prompt.languages.spanish import SPANISH
from app.domain.prompt.languages.table import Table

# A tie goes to the first.
TABLES: Sequence[Table] = (ENGLISH, SPANISH, PORTUGUESE, FRENCH, GERMAN)
FOREIGN = TABLES[1:]
PHRASES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    words: entries for table in reversed(FOREIGN) for words, entries in table.phrases.items()
}
LONGEST_PHRASE = max(map(len, PHRASES))
IDIOMS = ENGLISH.phrases  # of words and of entries
LONGEST_IDIOM = max(map(len, IDIOMS))
_SHORTEST_COMPOUND, _LONGEST_COMPOUND = 6, 40
_FEWEST_GUESTS = 2
_SHORTEST_GUEST = 3  # letters of a word that is read in another language than its neighbours
_LOANS = frozenset(["zoom", "pan", "tilt", "dolly", "video"])


def counts(words: Iterable[str]) -> list[float]:
    """How many of the words each table knows.

    Words of every film set count for none. False friends count half for English, and whole if it
    knows other words.
    """
    found, friends = [0.0] * len(TABLES), 0
    for word in words:
        if word in _LOANS:
            continue
        for n, table in enumerate(TABLES):
            found[n] += table.knows(word)
        friends += word in FALSE_FRIENDS and not ENGLISH.knows(word)
    found[0] += friends if found[0] else friends / 2
    return found


def language_of(words: Sequence[str], prompt: Sequence[float]) -> Table:
    """The language that knows most of the words, or else of the prompt, whose counts these are."""
    here = counts(words)
    return max(zip(here, prompt, TABLES, strict=True), key=lambda each: each[:2])[2]


def guests_of(language: Table, words: Sequence[str]) -> Sequence[Table]:
    """Further languages of the words: English in any, others in English if they know two more."""
    if language is not ENGLISH:
        return (ENGLISH,)
    unknown = [word for word in words if not (ENGLISH.knows(word) or word in FALSE_FRIENDS)]
    return [table for table in FOREIGN if sum(map(table.knows, unknown)) >= _FEWEST_GUESTS]


def look_up(word: str, language: Table, guests: Sequence[Table]) -> tuple[tuple[str, ...], Table]:
    """The entries of a word, and the table that has it: a guest if `language` has none.

    Without entries the word has no meaning to the grammar.
    """
    if language.knows(word) or word in FALSE_FRIENDS:
        return language.entries.get(word, ()), language
    for table in guests if len(word) >= _SHORTEST_GUEST else ():
        if word in table.entries:
            return table.entries[word], table
    return _compound(word), language


@lru_cache(maxsize=1024)
def _compound(word: str) -> tuple[str, ...]:
    """The entries of a German compound: "Kameraschwenk" is camera and pan."""
    if not _SHORTEST_COMPOUND <= len(word) <= _LONGEST_COMPOUND:
        return ()
    for end in range(len(word) - 3, 1, -1):
        first = COMPOUNDS.get(word[:end])
        if first is None:
            continue
        for rest in (word[end:], word[end:].removeprefix("s"), word[end:].removeprefix("zu")):
            if rest in GERMAN.entries:
                return tuple(first.split()) + GERMAN.entries[rest]
            if rest in _LOANS:
                return tuple(first.split()) + ENGLISH.entries[rest]
    return ()
