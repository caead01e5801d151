"""What one word means in its clause: the motions that it names.

`named` returns a tuple: the first is what the word asks for, and all of them are what it refuses if
it is negated, as "no zoom" refuses both zooms.
"""

from collections.abc import Mapping

from app.domain.prompt.clause import SOFT, WATER, Clause, Directions, Motions
from app.domain.prompt.motions import CameraMotion, Motion, ObjectMotion

_C, _O = CameraMotion, ObjectMotion

CAMERA: Motions = tuple(motion for motion in _C if motion is not _C.STILL)
OBJECT: Motions = tuple(motion for motion in _O if motion is not _O.STILL)

_PANS: Directions = {
    "left": _C.PAN_LEFT,
    "right": _C.PAN_RIGHT,
    "up": _C.TILT_UP,
    "down": _C.TILT_DOWN,
}
_TILTS: Directions = {"up": _C.TILT_UP, "down": _C.TILT_DOWN}
_DEPTH: Directions = {
    "in": _C.ZOOM_IN,
    "forward": _C.ZOOM_IN,
    "closer": _C.ZOOM_IN,
    "in-out": _C.ZOOM_IN,
    "out": _C.ZOOM_OUT,
    "back": _C.ZOOM_OUT,
    "away": _C.ZOOM_OUT,
}
_ROTATIONS: Directions = {
    "left": _C.ROTATE_LEFT,
    "anticlockwise": _C.ROTATE_LEFT,
    "right": _C.ROTATE_RIGHT,
    "clockwise": _C.ROTATE_RIGHT,
    "around": _O.SPIN,
}
_DRIFTS: Directions = {"left": _O.DRIFT_LEFT, "right": _O.DRIFT_RIGHT, "up-down": _O.BOB}
# An orbit is a pan with parallax. Clockwise, from above, the camera in front goes left.
_ORBITS: Directions = {
    "left": _C.PAN_LEFT,
    "clockwise": _C.PAN_LEFT,
    "right": _C.PAN_RIGHT,
    "anticlockwise": _C.PAN_RIGHT,
}
_PUSH: Directions = {"in": _C.ZOOM_IN, "closer": _C.ZOOM_IN, "forward": _C.ZOOM_IN}
_PULL: Directions = {"out": _C.ZOOM_OUT, "back": _C.ZOOM_OUT, "away": _C.ZOOM_OUT}
_CAMERA_PATHS: Directions = {**_PANS, **_DEPTH}
_PATHS: Directions = {**_DRIFTS, "around": _O.SPIN}
# Of a verb whose subject is not said.
_MOVES: Directions = {**_CAMERA_PATHS, "up-down": _O.BOB, "around": _O.SPIN}
_GOES: Directions = {**_DEPTH, **_PATHS}

# Words of one meaning.
_SIMPLE: Mapping[str, Motion] = {
    "handheld": _C.HANDHELD,
    "sway": _O.SWAY,
    "side-to-side": _O.SWAY,
    "bob": _O.BOB,
    "up-down": _O.BOB,
    "ripple": _O.RIPPLE,
    "spin": _O.SPIN,
    "pulse": _O.PULSE,
}
# Words that name a motion only if nothing else does: scenery rather than a wish.
SCENERY: Mapping[str, Motion] = {
    "wind": _O.SWAY,
    "sea": _O.RIPPLE,
    "reveal": _C.ZOOM_OUT,
    "parallax": _C.PAN_RIGHT,
    "ken-burns": _C.ZOOM_IN,
}
_TURNS = frozenset(["rotate", "spin", "turn", "move", "go", "fly", "glide", "roll"])


def named(clause: Clause, at: int) -> tuple[Motions, set[int]]:
    """The motions that word `at` names, and the positions of the words that say so."""
    entry, entries = clause.entries[at], set(clause.entries)
    subject, of_subject = clause.subject(at)
    by_camera = subject == "camera"
    by_thing = subject == "thing"
    kind = clause.kind(at)

    def toward(table: Directions, default: Motions = ()) -> tuple[Motions, set[int]]:
        found = clause.direction(at, table)
        used = {at} | of_subject
        if found is None:
            return default, used
        return (table[clause.entries[found]],), used | {found}

    if (
        entry in _TURNS
        and "camera" in entries
        and ("orbit" in entries or (by_camera and "around" in entries))
    ):
        entry, by_thing = "orbit", False  # "the camera moves around the statue"
    match entry:
        case "sway" | "float" | "shake" | "rock" if by_camera:
            return (_C.HANDHELD,), {at} | of_subject
        case "spin" if by_camera:
            return toward(_ROTATIONS, (_C.ROTATE_RIGHT, _C.ROTATE_LEFT))
        case "orbit" if not by_thing or kind == "subject":
            if clause.words[at].plain.startswith("circl") and not entries & {"around", "camera"}:
                return (), set()  # a shape
            found, used = toward(_ORBITS, (_C.PAN_RIGHT, _C.PAN_LEFT))
            return found, used | clause.at("around")
        case "ripple" if kind in SOFT:
            return (_O.SWAY,), {at}
        case "float" | "drift" | "roll" | "walk" | "fly" | "swirl" | "ripple" if (
            by_thing and kind == "clouds"
        ):
            return toward(_DRIFTS, (_O.DRIFT_RIGHT, _O.DRIFT_LEFT))
        case "float" | "drift" | "fly" if kind in SOFT - {"wind", "foliage"}:
            return toward(_DRIFTS, (_O.SWAY,))
        case "rise" | "blow" | "bend" | "dance" | "flicker" | "roll" | "burn" if kind in SOFT:
            return (_O.SWAY,), {at} | clause.at("wind")
        case "blink" | "bob" if kind == "fire":
            return (_O.SWAY,), {at}
        case "swirl":
            return (_O.RIPPLE if kind in WATER else _O.SWAY,), {at}
        case "crash" | "fall" | "walk" if kind in WATER:
            return (_O.RIPPLE,), {at}
        case "glow" | "dance" if clause.at(*WATER):
            return (_O.RIPPLE,), {at}
        case _ if entry in _SIMPLE:
            return (_SIMPLE[entry],), {at} | of_subject
        case "zoom":
            return toward(_DEPTH, (_C.ZOOM_IN, _C.ZOOM_OUT))
        case "pan":
            return toward(_PANS, (_C.PAN_RIGHT, _C.PAN_LEFT))
        case "tilt":
            return toward(_TILTS)
        case "push":
            return toward(_PUSH, (_C.ZOOM_IN, _C.ZOOM_OUT) if by_camera else ())
        case "pull":
            return toward(_PULL, (_C.ZOOM_OUT, _C.ZOOM_IN) if by_camera else ())
        case "dolly":
            return toward(_CAMERA_PATHS, (_C.ZOOM_IN, _C.ZOOM_OUT))
        case "track" | "look" | "crane" if not by_thing:
            return toward(_PANS)
        case "glide" if not by_thing:
            return toward(_CAMERA_PATHS)
        case "rotate" if by_thing:
            return (_O.SPIN,), {at} | clause.directions(at, _ROTATIONS)
        case "rotate":
            return toward(_ROTATIONS, (_C.ROTATE_RIGHT, _C.ROTATE_LEFT, _O.SPIN))
        case "turn" if by_thing:
            return toward({"around": _O.SPIN})
        case "roll" if by_camera:
            return toward(_ROTATIONS, (_C.ROTATE_RIGHT, _C.ROTATE_LEFT))
        case "turn" | "roll" if not by_thing:
            return toward(_ROTATIONS)
        case "retreat" if by_camera:
            return (_C.ZOOM_OUT,), {at} | of_subject | clause.directions(at, _PULL)
        case "approach" if not by_thing:
            return (_C.ZOOM_IN,), {at} | of_subject
        case "rise" if by_camera:
            return (_C.TILT_UP,), {at} | of_subject
        case "sink" if by_camera:
            return (_C.TILT_DOWN,), {at} | of_subject
        case "shake":
            return (_O.SWAY if by_thing else _C.HANDHELD,), {at}
        case "move" | "go":
            return _moves(clause, at)
        case "glide":
            return toward(_PATHS)
        case "drift" | "fly" | "walk" | "sail" if by_camera:
            return toward(_CAMERA_PATHS, (_C.ZOOM_IN,) if entry in ("fly", "walk") else ())
        case "drift":
            return toward(_DRIFTS, (_O.DRIFT_RIGHT, _O.DRIFT_LEFT))
        case "fly" if not by_thing:
            return toward({**_DRIFTS, "forward": _C.ZOOM_IN})
        case "fly" | "walk" | "sail":
            return toward(_DRIFTS)
        case "float":
            return toward(_DRIFTS, (_O.BOB,))
        case "wave":
            flying = {"wind", "flag"} & entries or clause.words[at].plain == "waving"
            return (_O.SWAY if flying or kind in SOFT else _O.RIPPLE,), {at}
        case "bend" | "blow" if "wind" in entries:
            return (_O.SWAY,), {at} | clause.at("wind")
        case "rock" if "side-to-side" in entries:
            return (_O.SWAY,), {at} | clause.at("side-to-side")
        case "still" | "freeze":
            return clause.stillness(at)
    return (), set()


def _moves(clause: Clause, at: int) -> tuple[Motions, set[int]]:
    """What "move" and "go" mean: a path, or the motion that such a thing has."""
    entry = clause.entries[at]
    subject, of_subject = clause.subject(at)
    used = {at} | of_subject
    if subject == "camera":
        table = _CAMERA_PATHS
    elif subject == "thing":
        table = _DRIFTS if clause.at(*WATER) else _PATHS
    else:
        table = _MOVES if entry == "move" else _GOES
    found = clause.direction(at, table)
    if found is not None:
        return (table[clause.entries[found]],), used | {found}
    noun = clause.noun(at)
    if subject == "camera" or noun is None:
        return (), used
    kind = clause.entries[noun]
    is_noun = clause.words[at].plain.startswith(("motion", "movement"))
    if kind in WATER or kind == "clouds" or (kind and entry == "move"):
        return clause.unasked_motion(at), used | (clause.at("wind") if kind == "wind" else set())
    if entry == "move" and not is_noun and (clause.words[noun].named or clause.restricted):
        return clause.unasked_motion(at), used
    return (), used


def refused(clause: Clause, at: int) -> tuple[Motions, set[int]]:
    """The motions that the negated word `at` refuses, and the words that say so.

    One that names a thing, as in "the house does not move", only keeps that thing still.
    """
    entry = clause.entries[at]
    if entry in ("still", "freeze", "orbit"):
        return (), {at}  # "not static" asks for no certain motion; an orbit is more than a pan
    if entry in ("move", "go"):
        if camera := clause.at("camera"):
            return CAMERA, {at} | camera
        if clause.noun(at) is not None and "everything" not in clause.entries:
            return (_O.STILL,), {at}
        return CAMERA + OBJECT, {at}
    found, used = named(clause, at)
    if found or entry in SCENERY:
        return found or (SCENERY[entry],), used | {at}
    match entry:
        case "tilt" | "crane":
            return (_C.TILT_UP, _C.TILT_DOWN), {at}
        case "push" | "dolly" | "pull" | "approach" | "retreat":
            return (_C.ZOOM_IN, _C.ZOOM_OUT), {at}
        case "track" | "glide":
            return (_C.PAN_LEFT, _C.PAN_RIGHT), {at}
        case "turn" | "roll":
            return (_C.ROTATE_LEFT, _C.ROTATE_RIGHT, _O.SPIN), {at}
        case "bend" | "blow" | "rock":
            return (_O.SWAY,), {at}
        case "fly" | "sail" | "walk":
            return (_O.DRIFT_LEFT, _O.DRIFT_RIGHT), {at}
        case "shake":
            return (_C.HANDHELD,), {at}
    return (), set()
