"""Which words of a clause wish for what no model makes."""

from app.domain.prompt.clause import SOFT, WATER, Clause
from app.domain.prompt.wishes import OF_ENTRY, Wish

Wished = tuple[Wish, set[int]]
_BODY = {"head": Wish.LOOK, "limb": Wish.GESTURE, "mouth": Wish.TALK}
_SIDEWAYS = frozenset(["left", "right"])


def wished(clause: Clause, at: int) -> Wished | None:
    """The wish that word `at` names, and the words that say so. None if it names none."""
    entry = clause.entries[at]
    subject, _ = clause.subject(at)
    if _describes(clause, at):
        return None
    kind = clause.kind(at)
    if entry in ("dance", "flicker", "glow") and (kind in SOFT or clause.at(*WATER)):
        return None
    if entry == "blink" and kind == "fire":
        return None
    if entry == "follow" and subject == "thing":
        return None
    if (wish := OF_ENTRY.get(entry)) is not None:
        return wish, {at} | clause.nearby(at, *_BODY, "at-camera", "person", "snow", "rain")
    if subject == "camera":
        return None
    return _of_body(clause, at) or _of_thing(clause, at, by_thing=subject == "thing")


def _describes(clause: Clause, at: int) -> bool:
    """Whether it is an English participle before its noun, as in "a smiling woman"."""
    after = at + 1
    return (
        clause.words[at].plain.endswith(("ing", "ed"))
        and after < len(clause.words)
        and clause.words[after].is_thing
        and not (at and clause.words[at - 1].is_thing)
        and clause.entries[after] not in ("snow", "rain", "foliage", *_BODY)
    )


def _of_body(clause: Clause, at: int) -> Wished | None:
    """A part of a body that is to move."""
    entry = clause.entries[at]
    if entry == "open" and clause.nearby(at, "head"):
        return Wish.BLINK, {at} | clause.nearby(at, "head")
    if entry in ("open", "rise", "sink", "move", "turn", "tilt", "rotate", "go"):
        for part, wish in _BODY.items():
            if found := clause.nearby(at, part):
                return wish, {at} | found | clause.at(*_SIDEWAYS)
    if entry == "shake" and clause.nearby(at, "head"):
        return Wish.LOOK, {at} | clause.nearby(at, "head")
    if entry == "wave" and (found := clause.nearby(at, "limb", "person", "at-camera")):
        return Wish.GESTURE, {at} | found | clause.nearby(at + 1, "at-camera")
    return None


def _of_thing(clause: Clause, at: int, *, by_thing: bool) -> Wished | None:
    entry, kind = clause.entries[at], clause.kind(at)
    sideways = _SIDEWAYS & set(clause.entries)
    flows = clause.at("wave", "ripple")
    match entry:
        case "look" if kind in ("person", "head"):
            return Wish.LOOK, {at} | clause.at(*_SIDEWAYS)
        case "turn" if (
            by_thing
            and "spin" not in clause.entries
            and ("around" not in clause.entries or kind == "person")
        ):
            return Wish.TURN, {at} | clause.at("around", "at-camera", *_SIDEWAYS)
        case "fall" | "sink" | "float" | "drift" | "swirl" | "come" if (
            kind in ("snow", "rain") and not sideways
        ):
            noun = clause.noun(at)
            used = {at} if noun is None else {at, noun}
            return Wish.SNOW if kind == "snow" else Wish.RAIN, used | clause.at("down")
        case "fall" if clause.noun(at) is not None and kind not in WATER and kind != "wind":
            if clause.words[at].plain != "fallen" and (by_thing or kind == "foliage"):
                return Wish.FALL, {at} | clause.at("down")
        case "walk" if not (sideways or kind in WATER or kind == "clouds" or flows):
            return Wish.WALK, {at} | clause.at("away", "forward", "at-camera", "around")
        case "fly" if by_thing and not sideways and kind not in ("flag", "clouds", "hair"):
            return Wish.TRAVEL, {at} | clause.at("away", "forward", "at-camera", "around")
        case "move" | "go" if by_thing and clause.at("away", "at-camera", "forward", "closer"):
            return Wish.TRAVEL, {at} | clause.at("away", "at-camera", "forward", "closer")
        case "open" if by_thing and clause.words[at].plain not in ("open", "close"):
            return Wish.CHANGE, {at}
        case "crash" if by_thing and kind not in WATER:
            return Wish.BURST, {at}
    return None
