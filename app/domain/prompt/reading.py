"""Reads a prompt: which motions it asks for and refuses, and which words have no effect.

A model's profile names the grammar that its prompts are read with. One that understands free text
names none.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from app.domain.prompt.clause import Clause, Motions
from app.domain.prompt.meaning import OBJECT, SCENERY, named, refused
from app.domain.prompt.motions import (
    CameraMotion,
    Motion,
    ObjectMotion,
    Strength,
    Target,
    Understood,
)
from app.domain.prompt.wishes import Wish
from app.domain.prompt.wishing import wished
from app.domain.prompt.words import Word, clauses

_ZOOMS = frozenset([CameraMotion.ZOOM_IN, CameraMotion.ZOOM_OUT])


class Grammar(StrEnum):
    """How a model's prompts are read."""

    MOTION_WORDS = "motion-words"
    LAYERED_MOTION_WORDS = "layered-motion-words"  # its plain words name the target, too


@dataclass(frozen=True)
class _Asked:
    """Motions that a word names, the words that say so, and what they are to move."""

    motions: Motions
    said: list[Word]
    target: Target | None = None
    of_target: list[Word] = field(default_factory=list)


class _Reading:
    """Collects what the clauses say."""

    def __init__(self) -> None:
        self.asked: list[_Asked] = []
        self.scenery: list[_Asked] = []
        self.excluded: list[Motion] = []
        self.wishes: list[Wish] = []
        self.kept_still: list[Target] = []
        self.strengths: list[Word] = []  # of clauses with a motion
        self.used: set[int] = set()  # positions of words

    def take(self, words: list[Word]) -> None:
        clause = Clause(words)
        moves = False
        for at, word in enumerate(words):
            if not (clause.moving[at] or word.entry in SCENERY):
                continue
            if (wish := wished(clause, at)) is not None:
                self._use(words[n] for n in wish[1] | _wished_of(clause, at))
                if not word.negated and wish[0] not in self.wishes:
                    self.wishes.append(wish[0])
            elif word.negated:
                self._refuse(clause, at)
            elif self._ask(clause, at):
                moves = True
            elif word.entry == "ambient":
                self._use([word])
        if clause.restricted:
            moves = self._restrict(clause, moves=moves) or moves
        if moves or all(w.entry in set(Strength) or w.style for w in words):
            self.strengths += [w for w in words if w.entry in set(Strength) and not w.negated]

    def _ask(self, clause: Clause, at: int) -> bool:
        motions, used = named(clause, at)
        entry = clause.entries[at]
        group = self.asked if motions else self.scenery
        if not motions and entry in SCENERY:
            motions, used = (SCENERY[entry],), {at}
        if not motions:
            return False
        asked = self._asked(clause, at, motions, used)
        if asked.target and motions == (ObjectMotion.STILL,) and _names_layer(clause, at):
            self.kept_still.append(asked.target)
            self._use(asked.said + asked.of_target)
        group.append(asked)
        return True

    def _asked(self, clause: Clause, at: int, motions: Motions, used: set[int]) -> _Asked:
        target, of_target = clause.target(at)
        words = clause.words
        return _Asked(motions, [words[n] for n in used], target, [words[n] for n in of_target])

    def _refuse(self, clause: Clause, at: int) -> None:
        motions, used = refused(clause, at)
        target, of_target = clause.target(at)
        self._use(clause.words[n] for n in used)
        if set(motions) <= set(OBJECT) | {ObjectMotion.STILL} and motions:
            if target and _names_layer(clause, at):
                self.kept_still.append(target)
                self._use(clause.words[n] for n in of_target)
                motions = (ObjectMotion.STILL,)
            if motions == (ObjectMotion.STILL,):
                self.asked.append(_Asked(motions, []))
                return
        self.excluded += motions

    def _restrict(self, clause: Clause, *, moves: bool) -> bool:
        """Do what "only" asks for: "only the water", or "only the camera moves"."""
        if clause.at("camera") and not any(
            isinstance(motion, ObjectMotion) for each in self.asked for motion in each.motions
        ):
            self.asked.append(_Asked((ObjectMotion.STILL,), []))
            return False
        [limit, *_] = sorted(clause.at("only", "only-before"))
        if moves or clause.noun(limit) is None or any(word.negated for word in clause.words):
            return False
        if any(clause.moving) or clause.at("camera"):
            return False
        self.asked.append(self._asked(clause, limit, clause.unasked_motion(limit), set()))
        return True

    def result(self, words: Sequence[Word]) -> Understood:
        camera, thing, target, of_target = self._chosen()
        strength = None
        if camera not in (None, CameraMotion.STILL) or thing not in (None, ObjectMotion.STILL):
            strength = Strength.NORMAL
            if self.strengths:
                strength = Strength(self.strengths[0].entry)
                self._use([w for w in self.strengths if w.entry == strength])
        excluded = tuple(dict.fromkeys(self.excluded))
        if Target.BACKGROUND in self.kept_still and camera is None and thing in _STANDING:
            camera, thing = CameraMotion.STILL, None  # a camera moves the background, too
        camera, thing, strength = _without_ambient(camera, thing, strength, excluded)
        if thing in _STANDING:
            target, of_target = None, []
        elif target is None and len(set(self.kept_still)) == 1:
            [target] = {Target.SUBJECT, Target.BACKGROUND} - set(self.kept_still)
        return Understood(
            camera,
            thing,
            strength,
            target,
            excluded,
            tuple(self.wishes),
            self._unused(words),
            tuple(dict.fromkeys(text for word in of_target for text in word.written)),
        )

    def _unused(self, words: Sequence[Word]) -> tuple[str, ...]:
        """Words without effect, as written, each once."""
        counted = self.used | {n for word in words if _says_how(word) for n in word.tokens}
        found: dict[str, None] = {}
        for word in words:
            for number, text in zip(word.tokens, word.written, strict=True):
                if number not in counted:
                    found[text] = None
        return tuple(found)

    def _chosen(
        self,
    ) -> tuple[CameraMotion | None, ObjectMotion | None, Target | None, list[Word]]:
        """The first motion of each kind that is not refused. A model makes one of each."""
        camera: CameraMotion | None = None
        thing: ObjectMotion | None = None
        targets: list[Target] = []
        of_target: list[Word] = []
        for asked in self.asked + self.scenery:
            still = CameraMotion.STILL in asked.motions
            for motion in asked.motions if still else asked.motions[:1]:
                if motion in self.excluded:
                    self._use(asked.said)
                elif isinstance(motion, CameraMotion):
                    if camera in (None, CameraMotion.STILL, motion):
                        camera = motion
                        self._use(asked.said)
                    elif motion is CameraMotion.STILL:
                        self._use(asked.said)
                elif thing in (None, ObjectMotion.STILL, motion):
                    if motion is not ObjectMotion.STILL and asked.target:
                        targets.append(asked.target)
                        of_target += asked.of_target
                    thing = motion
                    self._use(asked.said)
                elif motion is ObjectMotion.STILL:
                    self._use(asked.said)
        return camera, thing, *((targets[0], of_target) if len(set(targets)) == 1 else (None, []))

    def _use(self, words: Iterable[Word]) -> None:
        self.used |= {number for word in words for number in word.tokens}


_STANDING = (None, ObjectMotion.STILL)


def _wished_of(clause: Clause, at: int) -> set[int]:
    """Who is to do what no model makes, and how: with the wish, all is said of them."""
    noun = clause.noun(at)
    how = clause.nearby(at, "gentle", "strong")
    return how if noun is None or not clause.entries[noun] else how | {noun}


def _names_layer(clause: Clause, at: int) -> bool:
    """Whether word `at` speaks of "the background" or "the subject" itself."""
    return clause.kind(at) in ("background", "subject")


def _says_how(word: Word) -> bool:
    """Whether it is a direction such as "in", or "she", which are never worth a mention."""
    return word.function or word.entry in _HOW


_HOW = frozenset(
    ["in", "out", "up", "down", "back", "not", "forward", "only", "only-before", "at-camera"]
)


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
    return reading.result([word for clause in found for word in clause])


def _read_layered(prompt: str) -> Understood:
    return replace(_read_motion_words(prompt), layered=True)


_READERS: Mapping[Grammar, Callable[[str], Understood]] = {
    Grammar.MOTION_WORDS: _read_motion_words,
    Grammar.LAYERED_MOTION_WORDS: _read_layered,
}


def understand(grammar: Grammar | None, prompt: str) -> Understood | None:
    """What a model with this grammar understands of a prompt. None: it reads the text itself.

    `target` and `unsupported` are the same in every grammar.
    """
    return None if grammar is None else _READERS[grammar](prompt)
