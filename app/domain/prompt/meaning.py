"""What one word means in its clause: the motions that it names.

`named` returns a tuple: the first is what the word asks for, and all of them are what it refuses if
it is negated, as "no zoom" refuses both zooms.
"""

from collections.abc import Mapping, Sequence

from app.domain.prompt.motions import CameraMotion, Motion, ObjectMotion
from app.domain.prompt.words import Word

_C, _O = CameraMotion, ObjectMotion
Motions = tuple[Motion, ...]
Directions = Mapping[str, Motion]

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
_PUSH: Directions = {"in": _C.ZOOM_IN, "closer": _C.ZOOM_IN}
_PULL: Directions = {"out": _C.ZOOM_OUT, "back": _C.ZOOM_OUT, "away": _C.ZOOM_OUT}
_CAMERA_PATHS: Directions = {**_PANS, **_DEPTH}
_PATHS: Directions = {**_DRIFTS, "around": _O.SPIN}
# Of a verb whose subject is not said.
_MOVES: Directions = {**_CAMERA_PATHS, "up-down": _O.BOB, "around": _O.SPIN}
_GOES: Directions = {**_DEPTH, **_PATHS}

# Words of one meaning. "camera": the meaning if the camera is what moves.
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
SCENERY: Mapping[str, Motion] = {"wind": _O.SWAY, "sea": _O.RIPPLE}


class Clause:
    """Finds what the words of one clause mean."""

    def __init__(self, words: Sequence[Word]):
        self.words = words
        self.entries = [word.entry for word in words]

    def named(self, at: int) -> tuple[Motions, set[int]]:
        """The motions that word `at` names, and the positions of the words that say so."""
        entry = self.entries[at]
        subject, of_subject = self._subject(at)
        by_camera = subject == "camera"
        by_thing = subject == "thing"

        def toward(table: Directions, default: Motions = ()) -> tuple[Motions, set[int]]:
            found = self._direction(at, table)
            used = {at} | of_subject
            return (
                (default, used)
                if found is None
                else ((table[self.entries[found]],), used | {found})
            )

        match entry:
            case "sway" | "float" | "shake" | "rock" if by_camera:
                return (_C.HANDHELD,), {at} | of_subject
            case "spin" if by_camera:
                return toward(_ROTATIONS, (_C.ROTATE_RIGHT, _C.ROTATE_LEFT))
            case _ if entry in _SIMPLE:
                return (_SIMPLE[entry],), {at} | of_subject
            case "zoom":
                return toward(_DEPTH, (_C.ZOOM_IN, _C.ZOOM_OUT))
            case "pan":
                return toward(_PANS, (_C.PAN_RIGHT, _C.PAN_LEFT))
            case "tilt":
                return toward(_TILTS)
            case "push":
                return toward(_PUSH)
            case "pull":
                return toward(_PULL)
            case "dolly":
                return toward(_CAMERA_PATHS)
            case "track" | "look" | "crane" if not by_thing:
                return toward(_PANS)
            case "glide" if not by_thing:
                return toward(_CAMERA_PATHS)
            case "rotate" if by_thing:
                return (_O.SPIN,), {at} | self._directions(at, _ROTATIONS)
            case "rotate":
                return toward(_ROTATIONS, (_C.ROTATE_RIGHT, _C.ROTATE_LEFT, _O.SPIN))
            case "turn" if by_thing:
                return toward({"around": _O.SPIN})
            case "roll" if by_camera:
                return toward(_ROTATIONS, (_C.ROTATE_RIGHT, _C.ROTATE_LEFT))
            case "turn" | "roll" if not by_thing:
                return toward(_ROTATIONS)
            case "retreat" if by_camera:
                return (_C.ZOOM_OUT,), {at} | of_subject | self._directions(at, _PULL)
            case "approach" if not by_thing:
                return (_C.ZOOM_IN,), {at} | of_subject
            case "rise" if by_camera:
                return (_C.TILT_UP,), {at} | of_subject
            case "sink" if by_camera:
                return (_C.TILT_DOWN,), {at} | of_subject
            case "shake" if not by_thing:
                return (_C.HANDHELD,), {at}
            case "go" if by_camera:
                return toward(_CAMERA_PATHS)
            case "go" if not by_thing:
                return toward(_GOES)
            case "move" if not by_thing:
                return toward(_MOVES)
            case "move" | "go" if self._is_water():
                return toward(_DRIFTS, (_O.RIPPLE,))
            case "move" | "go" | "glide":
                return toward(_PATHS)
            case "drift" | "fly" if by_camera:
                return toward(_CAMERA_PATHS)
            case "drift":
                return toward(_DRIFTS, (_O.DRIFT_RIGHT, _O.DRIFT_LEFT))
            case "fly":
                return toward(_DRIFTS)
            case "float":
                return toward(_DRIFTS, (_O.BOB,))
            case "wave":
                flying = {"wind", "flag"} & set(self.entries) or self.words[at].plain == "waving"
                return (_O.SWAY if flying else _O.RIPPLE,), {at}
            case "bend" | "blow" if "wind" in self.entries:
                return (_O.SWAY,), {at, self.entries.index("wind")}
            case "rock" if "side-to-side" in self.entries:
                return (_O.SWAY,), {at, self.entries.index("side-to-side")}
            case "still" | "freeze":
                return self._stillness(at)
        return (), set()

    def refused(self, at: int) -> tuple[Motions, set[int]]:
        """The motions that the negated word `at` refuses, and the words that say so."""
        entry = self.entries[at]
        if entry in ("still", "freeze"):
            return (), {at}  # "not static" asks for no certain motion
        found, used = self.named(at)
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
            case "fly":
                return (_O.DRIFT_LEFT, _O.DRIFT_RIGHT), {at}
            case "shake":
                return (_C.HANDHELD,), {at}
            case "move" | "go":
                of_camera = "camera" in self.entries
                of_thing = any(word.is_thing for word in self.words)
                used = {at} | {n for n, each in enumerate(self.entries) if each == "camera"}
                return (() if of_thing and not of_camera else CAMERA) + (
                    () if of_camera else OBJECT
                ), used
        return (), set()

    def _subject(self, at: int) -> tuple[str, set[int]]:
        """Who moves: "camera", "thing" or "" if the clause does not say; and where it says so."""
        after = at + 1
        if after < len(self.words) and self.entries[after] == "camera":
            return "camera", {after}  # "rising camera", "rotate the picture"
        for before in range(at - 1, -1, -1):
            if self.entries[before] == "camera":
                return "camera", {before}
            if self.words[before].is_thing:
                return "thing", set()
        return "", set()

    def _is_water(self) -> bool:
        return bool({"water", "sea"} & set(self.entries))

    def _direction(self, at: int, table: Directions) -> int | None:
        """Where the nearest direction in the table stands: after the word, or right before it.

        Another verb in between has it.
        """
        for ahead in range(at + 1, len(self.words)):
            if self.entries[ahead] in table:
                return ahead
            if self.words[ahead].names_motion:
                break
        for before in range(at - 1, max(-1, at - 3), -1):
            if self.entries[before] in table:
                return before
            if self.words[before].names_motion:
                break
        return None

    def _directions(self, at: int, table: Directions) -> set[int]:
        found = self._direction(at, table)
        return set() if found is None else {found}

    def _stillness(self, at: int) -> tuple[Motions, set[int]]:
        """What stands still: the camera, the things, or both if the clause names neither."""
        after = at + 1
        if after < len(self.words) and self.words[after].is_thing:
            return (), set()  # "a frozen lake" describes the picture
        subject, used = self._subject(at)
        if subject == "camera":
            return (_C.STILL,), used | {at}
        if subject == "thing":
            return (_O.STILL,), {at}
        return (_C.STILL, _O.STILL), {at}
