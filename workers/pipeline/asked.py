"""What a plain prompt asks for, with the direction and strength of each motion.

Training draws its truth with the same numbers.
"""

from dataclasses import dataclass, replace
from typing import Self

STILL = "still"
# End of each camera motion at normal strength, in half sides and radians: along x, along y, growth,
# turn. Backward: a pan to the left looks further left.
CAMERA = {
    STILL: (0.0, 0.0, 0.0, 0.0),
    "pan left": (-0.17, 0.0, 0.0, 0.0),
    "pan right": (0.17, 0.0, 0.0, 0.0),
    "tilt up": (0.0, -0.15, 0.0, 0.0),
    "tilt down": (0.0, 0.15, 0.0, 0.0),
    "zoom in": (0.0, 0.0, -0.18, 0.0),
    "zoom out": (0.0, 0.0, 0.16, 0.0),
    "rotate left": (0.0, 0.0, 0.0, 0.14),
    "rotate right": (0.0, 0.0, 0.0, -0.14),
    "handheld": (0.07, 0.084, 0.0, 0.0),
}
OBJECT = {
    STILL: 0.0,
    "sway": 0.16,
    "bob": 0.12,
    "ripple": 0.07,
    "spin": 0.4,
    "pulse": 0.25,
    "drift left": 0.2,
    "drift right": 0.2,
}
# Motions of things without an outline: water and foliage.
SOFT = frozenset({"ripple", "sway"})
# When the camera moves along or inwards, near things move so much more than far ones.
PARALLAX = 0.15
STEEPEST_SWAY = 0.22  # of a subject that is small: its top moves so far, in its own heights
SUBJECT, BACKGROUND = TARGETS = ("subject", "background")
AMOUNT = {"gently ": 0.6, "slow ": 0.6, "strongly ": 1.5}


@dataclass(frozen=True)
class Asked:
    """One camera motion, one object motion, and a factor for both."""

    camera: str = STILL
    object: str = STILL
    amount: float = 1.0
    target: str | None = None  # SUBJECT or BACKGROUND: what the object motion is to move

    @classmethod
    def read(cls, prompt: str) -> Self | None:
        """Read a prompt in plain words: "gently sway, pan left", "subject sway".

        None for anything else: how a prompt in free words is meant, only the network knows.
        """
        words, amount = prompt.strip().lower(), 1.0
        for adverb, factor in AMOUNT.items():
            if words.startswith(adverb):
                words, amount = words.removeprefix(adverb), factor
        made = cls(amount=amount)
        for part in words.split(", "):
            target, _, motion = part.partition(" ")
            if part in CAMERA:
                made = replace(made, camera=part)
            elif part in OBJECT:
                made = replace(made, object=part)
            elif target in TARGETS and motion in OBJECT:
                made = replace(made, object=motion, target=target)
            else:
                return None
        return made
