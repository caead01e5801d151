"""One clause of a prompt: who moves, which way, and what the motion is to be limited to."""

from collections.abc import Mapping, Sequence

from app.domain.prompt.motions import CameraMotion, Motion, ObjectMotion, Target
from app.domain.prompt.words import NOUNS, Word

Motions = tuple[Motion, ...]
Directions = Mapping[str, Motion]

# Things that stand out, and those that surround them. The rest may be either.
_SUBJECTS = frozenset(
    ["subject", "hair", "cloth", "flag", "person", "head", "limb", "mouth", "thing"]
)
_BACKGROUNDS = frozenset(["background", "clouds", "water", "sea", "wave"])
# What bends in the wind.
SOFT = frozenset(["hair", "cloth", "flag", "smoke", "foliage", "fire", "wind"])
WATER = frozenset(["water", "sea", "wave"])


class Clause:
    """The words of one clause, by position."""

    def __init__(self, words: Sequence[Word]):
        self.words = words
        self.entries = [word.entry for word in words]
        self.things = [word.is_thing for word in words]
        self.moving = [word.names_motion for word in words]

    @property
    def restricted(self) -> bool:
        """Whether it says "only"."""
        return "only" in self.entries or "only-before" in self.entries

    def at(self, *entries: str) -> set[int]:
        """Where these entries stand."""
        return {n for n, entry in enumerate(self.entries) if entry in entries}

    def subject(self, at: int) -> tuple[str, set[int]]:
        """Who moves: "camera", "thing" or "" if the clause does not say; and where it says so."""
        after = at + 1
        while after < len(self.words) and self.entries[after] in ("gentle", "strong"):
            after += 1
        if after < len(self.words) and self.entries[after] == "camera":
            return "camera", {after}  # "rising camera", "rotate the picture"
        things = False
        for before in range(at - 1, -1, -1):
            if self.entries[before] == "camera":
                return "camera", {before}
            if self.things[before]:
                things = True
            if things and not self.words[at].verb_last:
                break
            if self.moving[before]:
                break
        return ("thing" if things else ""), set()

    def noun(self, at: int) -> int | None:
        """The thing that word `at` speaks of: the nearest before it, or else the next."""
        wave = self.entries[at] == "wave"  # may be a noun: "turquoise waves"
        for before in range(at - 1, -1, -1):
            if self.entries[before] == "wave" or (
                self.things[before] and (self.entries[before] or not wave)
            ):
                return before
        if wave:
            return at
        for after in range(at + 1, len(self.words)):
            if self.things[after]:
                return after
            if self.moving[after] or self.entries[after] == "camera":
                break
        return None

    def kind(self, at: int) -> str:
        """The entry of that thing, "" if it has none or there is no such thing."""
        noun = self.noun(at)
        return "" if noun is None else self.entries[noun]

    def nearby(self, at: int, *entries: str) -> set[int]:
        """Where one of the entries stands right before or after word `at`."""
        return {n for n in (at - 1, at + 1) if 0 <= n < len(self.words)} & self.at(*entries)

    def direction(self, at: int, table: Directions) -> int | None:
        """Where the nearest direction in the table stands: after the word, or right before it.

        Another verb in between has it.
        """
        for ahead in range(at + 1, len(self.words)):
            if self.entries[ahead] in table:
                return ahead
            if self.moving[ahead]:
                break
        for before in range(at - 1, max(-1, at - 4), -1):
            if self.entries[before] in table:
                return before
            if self.moving[before]:
                break
        return None

    def directions(self, at: int, table: Directions) -> set[int]:
        found = self.direction(at, table)
        return set() if found is None else {found}

    def target(self, at: int) -> tuple[Target | None, set[int]]:
        """What an object motion is to move, and the words that say so.

        Only what the clause names counts: an unknown word may be an adverb, so it needs an article,
        or "only".
        """
        noun = self.noun(at)
        if noun is not None and self.entries[noun] == "wind":  # "wind blows through her hair"
            noun = next((n for n in range(noun + 1, len(self.words)) if self.things[n]), noun)
        places = self.at("background", "subject")
        if noun not in places and len(places) == 1:
            noun = min(places)  # "trees sway in the background"
        if noun is None:
            return None, set()
        entry, limits = self.entries[noun], self.at("only", "only-before")
        if entry in _SUBJECTS:
            return Target.SUBJECT, {noun} | limits
        if entry in _BACKGROUNDS or (entry in NOUNS and entry != "everything" and limits):
            return Target.BACKGROUND, {noun} | limits
        if not entry and (limits or self.words[noun].named):
            return Target.SUBJECT, {noun} | limits
        return None, set()

    def unasked_motion(self, at: int) -> Motions:
        """How a thing moves that is only said to move, and what "no such motion" refuses."""
        kind = self.kind(at)
        if kind in WATER:
            return (ObjectMotion.RIPPLE,)
        if kind == "clouds":
            return (ObjectMotion.DRIFT_RIGHT, ObjectMotion.DRIFT_LEFT)
        return (ObjectMotion.SWAY,)

    def stillness(self, at: int) -> tuple[Motions, set[int]]:
        """What stands still: the camera, the things, or both if the clause names neither."""
        after = at + 1
        if after < len(self.words) and self.things[after]:
            if self.words[at].plain == "freeze":
                return (ObjectMotion.STILL,), {at}
            return (), set()  # "a frozen lake" describes the picture
        subject, used = self.subject(at)
        if subject == "camera":
            return (CameraMotion.STILL,), used | {at}
        if subject == "thing" and self.kind(at) != "everything":
            return (ObjectMotion.STILL,), {at}
        return (CameraMotion.STILL, ObjectMotion.STILL), {at}
