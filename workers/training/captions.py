"""What a scene does, in words: the phrases of each motion, and captions made of them.

Several phrasings per motion, so that a free prompt meets at least one word it knows. Articles and
other words without meaning are left out: the tokeniser drops them from prompts as well.
"""

from dataclasses import dataclass

import numpy as np

from workers.pipeline.text import Tokeniser

CAMERA = {
    "still": [],
    "pan left": ["pan left", "camera pans left", "camera moves left", "look left", "slide left"],
    "pan right": [
        "pan right",
        "camera pans right",
        "camera moves right",
        "look right",
        "slide right",
    ],
    "tilt up": ["tilt up", "camera tilts up", "camera moves up", "look up", "pan up"],
    "tilt down": ["tilt down", "camera tilts down", "camera moves down", "look down", "pan down"],
    "zoom in": ["zoom in", "zoom", "push in", "dolly in", "camera zooms in", "move closer"],
    "zoom out": ["zoom out", "pull out", "pull back", "dolly out", "camera zooms out"],
    "rotate": ["rotate", "camera rotates", "roll", "rotate camera", "camera rolls"],
}
OBJECT = {
    "none": [],
    "sway": [
        "sway",
        "swaying in wind",
        "breeze",
        "wind",
        "wind blows",
        "sways in breeze",
        "waving",
        "flutter",
        "swing",
        "rustling leaves",
        "alive",
    ],
    "bounce": ["bounce", "bouncing up and down", "jump", "hop", "bob", "hover"],
    "ripple": ["ripple", "wobble", "shimmer", "undulate", "flowing"],
    "waves": ["waves", "water waves", "rolling waves", "water ripples", "sea", "ocean", "water"],
    "spin": ["spin", "spinning", "turn", "twirl", "whirl"],
    "pulse": ["pulse", "breathe", "breathing", "grow and shrink", "throb", "beat"],
    "drift left": ["drift left", "drifts to left", "float left", "flies left", "walks left"],
    "drift right": ["drift right", "drift", "float right", "flies right", "walks right", "float"],
}
NOTHING = ["still", "static", "no motion", "nothing moves", "still camera"]
STRENGTH = {
    "gentle": ["gentle", "slow", "slight", "subtle", "soft", "light", "calm", "little"],
    "normal": [],
    "strong": ["strong", "fast", "big", "wild", "quick", "heavy", "dramatic", "violent"],
}
# The length of a token row; the longest captions have about ten words.
LENGTH = 12
# Words of the phrases that carry no motion. "in", "out", "up", "and" do and stay.
EMPTY_WORDS = {"to"}


@dataclass(frozen=True)
class Motion:
    """What happens in a scene."""

    camera: str
    object: str
    strength: str


def vocabulary() -> list[str]:
    """Every word a caption can hold, sorted, so that the same code gives the same numbers."""
    groups = [*CAMERA.values(), *OBJECT.values(), *STRENGTH.values(), NOTHING]
    words = {word for phrases in groups for phrase in phrases for word in phrase.split()}
    return sorted(words - EMPTY_WORDS)


def tokeniser() -> Tokeniser:
    """The tokeniser of these captions."""
    return Tokeniser(vocabulary(), LENGTH)


def caption(motion: Motion, rng: np.random.Generator) -> str:
    """Say a motion in one of many ways; the order of the parts and of the adverb is free."""
    parts = [
        str(rng.choice(phrases))
        for phrases in (OBJECT[motion.object], CAMERA[motion.camera])
        if phrases
    ]
    if not parts:
        return str(rng.choice(NOTHING))
    if rng.random() < 0.5:
        parts.reverse()
    adverbs = STRENGTH[motion.strength]
    if adverbs:
        adverb = str(rng.choice(adverbs))
        part = int(rng.integers(len(parts)))
        said = [adverb, parts[part]] if rng.random() < 0.7 else [parts[part], adverb]
        parts[part] = " ".join(said)
    return (" and " if rng.random() < 0.3 else ", ").join(parts)
