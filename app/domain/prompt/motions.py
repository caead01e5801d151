"""The motions that a prompt can name, and what was understood of one."""

from dataclasses import dataclass
from enum import StrEnum

from app.domain.prompt.wishes import Wish


class CameraMotion(StrEnum):
    STILL = "still"
    PAN_LEFT = "pan left"
    PAN_RIGHT = "pan right"
    TILT_UP = "tilt up"
    TILT_DOWN = "tilt down"
    ZOOM_IN = "zoom in"
    ZOOM_OUT = "zoom out"
    ROTATE_LEFT = "rotate left"
    ROTATE_RIGHT = "rotate right"
    HANDHELD = "handheld"


class ObjectMotion(StrEnum):
    STILL = "still"
    SWAY = "sway"
    BOB = "bob"
    RIPPLE = "ripple"
    SPIN = "spin"
    PULSE = "pulse"
    DRIFT_LEFT = "drift left"
    DRIFT_RIGHT = "drift right"


class Strength(StrEnum):
    GENTLE = "gentle"
    NORMAL = "normal"
    STRONG = "strong"


class Target(StrEnum):
    """What an object motion is to move."""

    SUBJECT = "subject"
    BACKGROUND = "background"


Motion = CameraMotion | ObjectMotion

_ADVERBS = {Strength.GENTLE: "gently ", Strength.STRONG: "strongly "}


@dataclass(frozen=True)
class Understood:
    """How a prompt was understood. None: the prompt says nothing of it."""

    camera: CameraMotion | None = None
    object: ObjectMotion | None = None
    strength: Strength | None = None
    target: Target | None = None  # of the object motion; None also if there is none
    excluded: tuple[Motion, ...] = ()  # what the prompt refuses, such as "no zoom"
    unsupported: tuple[Wish, ...] = ()  # what no model makes, such as "she blinks"
    ignored: tuple[str, ...] = ()  # words without effect, as written, each once
    target_words: tuple[str, ...] = ()  # what says so, such as "she"; a noun is in `ignored`, too
    layered: bool = False  # whether the plain words name the target

    @property
    def ambient(self) -> bool:
        """Whether the clip gets the motion of an empty prompt."""
        return self.camera is None and self.object is None

    @property
    def plain(self) -> str:
        """The same motion in the plainest words, the only ones that the model gets.

        Empty if ambient, so that such a prompt gives the clip of an empty one. For example "gently
        sway, pan left"; if layered, "gently subject sway, pan left".
        """
        if self.ambient:
            return ""
        moving = []
        if self.object not in (None, ObjectMotion.STILL):
            target = f"{self.target} " if self.layered and self.target else ""
            moving.append(f"{target}{self.object}")
        if self.camera not in (None, CameraMotion.STILL):
            moving.append(str(self.camera))
        if not moving:
            return "still"
        adverb = "" if self.strength is None else _ADVERBS.get(self.strength, "")
        return adverb + ", ".join(moving)
