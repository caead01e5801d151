"""The motions that a prompt can name, and what was understood of one."""

from dataclasses import dataclass
from enum import StrEnum


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


Motion = CameraMotion | ObjectMotion

_ADVERBS = {Strength.GENTLE: "gently ", Strength.STRONG: "strongly "}


@dataclass(frozen=True)
class Understood:
    """How a prompt was understood. None: the prompt says nothing of it."""

    camera: CameraMotion | None = None
    object: ObjectMotion | None = None
    strength: Strength | None = None
    excluded: tuple[Motion, ...] = ()  # what the prompt refuses, such as "no zoom"
    ignored: tuple[str, ...] = ()  # words without effect, as written, each once

    @property
    def ambient(self) -> bool:
        """Whether the clip gets the motion of an empty prompt."""
        return self.camera is None and self.object is None

    @property
    def plain(self) -> str:
        """The same motion in the plainest words, the only ones that the model gets.

        Empty if ambient, so that such a prompt gives the clip of an empty one.
        """
        if self.ambient:
            return ""
        moving = [
            str(motion)
            for motion in (self.object, self.camera)
            if motion not in (None, CameraMotion.STILL, ObjectMotion.STILL)
        ]
        if not moving:
            return "still"
        adverb = "" if self.strength is None else _ADVERBS.get(self.strength, "")
        return adverb + ", ".join(moving)
