"""Reads a prompt: which motions it asks for and refuses, and which words have no effect.

A model's profile names the grammar that its prompts are read with. One that understands free text
names none.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache

from app.domain.prompt.meaning import SCENERY, Clause, Motions
from app.domain.prompt.motions import (
    CameraMotion,
    Motion,
    ObjectMotion,
    Strength,
    Understood,
)
from app.domain.prompt.words import Word, clauses

_ZOOMS = frozenset([CameraMotion.ZOOM_IN, CameraMotion.ZOOM_OUT])


class Grammar(StrEnum):
    """How a model's prompts are read."""

    MOTION_WORDS = "motion-words"


class _Reading:
    """Collects what the clauses say."""

    def __init__(self) -> None:
        self.asked: list[tuple[Motions, list[Word]]] = []
        self.scenery: list[tuple[Motions, list[Word]]] = []
        self.excluded: list[Motion] = []
        self.strengths: list[Word] = []  # of clauses with a motion
        self.used: set[int] = set()  # ids of words

    def take(self, words: list[Word]) -> None:
        clause = Clause(words)
        moves = False
        for at, word in enumerate(words):
            motions, used = clause.refused(at) if word.negated else clause.named(at)
            said = [words[n] for n in used]
            if word.negated:
                self.excluded += motions
                self._use(said)
            elif motions:
                self.asked.append((motions, said))
                moves = True
            elif word.entry in SCENERY:
                self.scenery.append(((SCENERY[word.entry],), [word]))
                moves = True
            elif word.entry == "ambient":
                self._use([word])
        if moves:
            self.strengths += [w for w in words if w.entry in set(Strength) and not w.negated]

    def result(self, words: Iterable[Word]) -> Understood:
        camera, thing = self._chosen()
        strength = None
        if camera not in (None, CameraMotion.STILL) or thing not in (None, ObjectMotion.STILL):
            strength = Strength.NORMAL
            if self.strengths:
                strength = Strength(self.strengths[0].entry)
                self._use([w for w in self.strengths if w.entry == strength])
        excluded = tuple(dict.fromkeys(self.excluded))
        camera, thing, strength = _without_ambient(camera, thing, strength, excluded)
        unused = (word for word in words if id(word) not in self.used and not _says_how(word))
        ignored = dict.fromkeys(text for word in unused for text in word.written)
        return Understood(camera, thing, strength, excluded, tuple(ignored))

    def _chosen(self) -> tuple[CameraMotion | None, ObjectMotion | None]:
        """The first motion of each kind that is not refused. A model makes one of each."""
        camera: CameraMotion | None = None
        thing: ObjectMotion | None = None
        for motions, said in self.asked + self.scenery:
            wanted = motions if CameraMotion.STILL in motions else motions[:1]
            for motion in wanted:
                if motion in self.excluded:
                    self._use(said)
                elif isinstance(motion, CameraMotion):
                    if camera in (None, CameraMotion.STILL, motion):
                        camera = motion
                        self._use(said)
                    elif motion is CameraMotion.STILL:
                        self._use(said)
                elif thing in (None, ObjectMotion.STILL, motion):
                    thing = motion
                    self._use(said)
                elif motion is ObjectMotion.STILL:
                    self._use(said)
        return camera, thing

    def _use(self, words: Iterable[Word]) -> None:
        self.used |= {id(word) for word in words}


def _says_how(word: Word) -> bool:
    """Whether it is a direction such as "in", which is never worth a mention."""
    return word.entry in ("in", "out", "up", "down", "back", "not")


def _without_ambient(
    camera: CameraMotion | None,
    thing: ObjectMotion | None,
    strength: Strength | None,
    excluded: tuple[Motion, ...],
) -> tuple[CameraMotion | None, ObjectMotion | None, Strength | None]:
    """The motion, with a gentle one where a prompt only says what must not move.

    Ambient motion zooms and may sway, so a prompt that refuses either gets the other. "No zoom out"
    does not mean zoom in, so it refuses both zooms here.
    """
    refuses_zoom = camera is CameraMotion.STILL or bool(_ZOOMS & set(excluded))
    refuses_sway = thing is ObjectMotion.STILL or ObjectMotion.SWAY in excluded
    moves = camera not in (None, CameraMotion.STILL) or thing not in (None, ObjectMotion.STILL)
    if moves or not (refuses_zoom or refuses_sway):
        return camera, thing, strength
    if refuses_zoom and refuses_sway:
        return CameraMotion.STILL, ObjectMotion.STILL, None
    if refuses_zoom:
        return CameraMotion.STILL, ObjectMotion.SWAY, Strength.GENTLE
    return CameraMotion.ZOOM_IN, ObjectMotion.STILL, Strength.GENTLE


@lru_cache(maxsize=1024)  # a job is shown many times
def _read_motion_words(prompt: str) -> Understood:
    reading, found = _Reading(), clauses(prompt)
    for clause in found:
        reading.take(clause)
    return reading.result(word for clause in found for word in clause)


_READERS: Mapping[Grammar, Callable[[str], Understood]] = {Grammar.MOTION_WORDS: _read_motion_words}


def understand(grammar: Grammar | None, prompt: str) -> Understood | None:
    """What a model with this grammar understands of a prompt. None: it reads the text itself."""
    return None if grammar is None else _READERS[grammar](prompt)
