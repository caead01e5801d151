"""What a scene does, in words: a small paraphrase grammar.

Every motion has phrases to train on and phrases that are held out to measure how well the text
encoder carries over. Subjects, fillers and invented words stand around them and mean nothing, so
that the encoder learns to pass over what it does not know.
"""

from dataclasses import dataclass

import numpy as np

from workers.pipeline.text import STOP_WORDS

CAMERA = {
    "still": [],
    "pan left": [
        "pan left",
        "camera pans left",
        "panning to the left",
        "the camera moves left",
        "look left",
        "slide left",
        "pan to the left",
        "left pan",
    ],
    "pan right": [
        "pan right",
        "camera pans right",
        "panning to the right",
        "the camera moves right",
        "look right",
        "slide right",
        "pan to the right",
        "right pan",
    ],
    "tilt up": [
        "tilt up",
        "camera tilts up",
        "tilting upwards",
        "the camera moves up",
        "look up",
        "pan up",
        "tilt upward",
        "camera rises",
    ],
    "tilt down": [
        "tilt down",
        "camera tilts down",
        "tilting downwards",
        "the camera moves down",
        "look down",
        "pan down",
        "tilt downward",
        "camera sinks",
    ],
    "zoom in": [
        "zoom in",
        "camera zooms in",
        "zooming in",
        "push in",
        "dolly in",
        "move closer",
        "zoom",
        "camera pushes in",
        "get closer",
    ],
    "zoom out": [
        "zoom out",
        "camera zooms out",
        "zooming out",
        "pull out",
        "pull back",
        "dolly out",
        "move away",
        "camera pulls back",
        "step back",
    ],
    "rotate left": [
        "rotate left",
        "rotate counterclockwise",
        "rotating to the left",
        "picture turns counterclockwise",
        "roll left",
        "counterclockwise rotation",
        "rolling left",
        "rotate anticlockwise",
    ],
    "rotate right": [
        "rotate right",
        "rotate clockwise",
        "rotating to the right",
        "picture turns clockwise",
        "roll right",
        "clockwise rotation",
        "rolling right",
    ],
    "handheld": [
        "handheld",
        "handheld camera",
        "hand held camera",
        "camera shake",
        "shaky camera",
        "floating camera",
        "unsteady camera",
        "wobbly camera",
    ],
}
OBJECT = {
    "still": [],
    "sway": [
        "sways",
        "swaying in the wind",
        "breeze",
        "wind blows",
        "sways in the breeze",
        "waving in the wind",
        "flutters",
        "swings",
        "rustling leaves",
        "leaves rustle",
        "windy",
        "swaying",
    ],
    "bob": [
        "bobs",
        "bobbing up and down",
        "bounces",
        "bouncing",
        "jumps",
        "hops",
        "hovers",
        "floats up and down",
        "moves up and down",
    ],
    "ripple": [
        "ripples",
        "rippling water",
        "waves",
        "rolling waves",
        "water ripples",
        "shimmers",
        "undulates",
        "wavy",
        "flowing water",
        "the sea",
        "ocean waves",
    ],
    "spin": [
        "spins",
        "spinning",
        "turns around",
        "twirls",
        "whirls",
        "spinning around itself",
        "revolves",
        "gyrates",
    ],
    "pulse": [
        "pulses",
        "pulsing",
        "breathes",
        "breathing",
        "grows and shrinks",
        "throbs",
        "heart beat",
        "swells",
        "expands",
    ],
    "drift left": [
        "drifts left",
        "drifting to the left",
        "floats left",
        "flies left",
        "walks left",
        "goes left",
        "sails left",
    ],
    "drift right": [
        "drifts right",
        "drifting to the right",
        "floats right",
        "flies right",
        "walks right",
        "goes right",
        "sails right",
    ],
}
STRENGTH = {
    "gentle": [
        *("gentle", "gently", "slow", "slowly", "slightly", "subtle", "soft", "softly"),
        *("light", "calm", "a little"),
    ],
    "normal": [],
    "strong": [
        *("strong", "strongly", "fast", "quickly", "wildly", "dramatic", "violent", "heavy"),
        *("powerful", "very much"),
    ],
}
NOTHING = ["still", "static", "no motion", "nothing moves", "completely still", "frozen"]
# Gentle life for a prompt that asks for no motion in particular.
AMBIENT = ["ambient motion", "subtle living motion", "bring it to life", "animate this", "alive"]

# Never trained on: other forms, other orders, words that share only their stems.
HELD_OUT_CAMERA = {
    "pan left": ["slow leftward pan", "the view pans over to the left"],
    "pan right": ["rightward pan", "the view pans over to the right"],
    "tilt up": ["camera tilting up", "upward tilt"],
    "tilt down": ["camera tilting down", "downward tilt"],
    "zoom in": ["slow push-in", "the camera is zooming in closer"],
    "zoom out": ["slow pull-back", "the camera is zooming out further"],
    "rotate left": ["counterclockwise roll", "rotates to the left"],
    "rotate right": ["clockwise roll", "rotates to the right"],
    "handheld": ["a shaky handheld shot", "hand-held camera shaking"],
}
HELD_OUT_OBJECT = {
    "sway": ["leaves flutter in the wind", "grass swayed by a breeze"],
    "bob": ["a boat bobs gently", "it is hopping up and down"],
    "ripple": ["waves on the water", "the lake is rippling"],
    "spin": ["it twirls and spins", "a spinning top"],
    "pulse": ["it pulsates", "the chest breathes slowly"],
    "drift left": ["clouds drift to the left", "it is floating left"],
    "drift right": ["clouds drift to the right", "it is floating right"],
}
SUBJECTS = [
    *("the flower", "a red boat", "the tree", "my dog", "the old house", "a woman", "the man"),
    *("a child", "the clouds", "the car", "a mountain", "the lake", "the river", "a bird"),
    *("the cat", "the bridge", "a lantern", "the moon", "the temple", "a bottle", "the statue"),
    *("a balloon", "the field", "the forest", "a street", "the city", "her hair", "the dress"),
    *("a horse", "the ship", "the fence", "the roof", "a candle", "the lamp", "a rose"),
    *("the garden", "an apple"),
]
FILLERS = [
    *("cinematic", "beautiful", "high quality", "in the evening", "at sunset", "photo"),
    *("portrait", "4k", "blue", "golden hour", "please", "make it", "realistic"),
    *("in the background", "landscape", "vintage", "colorful"),
]
LETTERS = np.array(list("aaabcdeeefghiiklmnooprstuvwyz"))


@dataclass(frozen=True)
class Motion:
    """What happens in a scene."""

    camera: str
    object: str
    strength: str


# What AMBIENT, a prompt of unknown words alone, and an empty prompt mean.
AMBIENT_MOTION = Motion("zoom in", "sway", "gentle")


def caption(motion: Motion, rng: np.random.Generator, *, held_out: bool = False) -> str:
    """Say a motion in one of many ways: phrases, their order, adverbs, subjects and fillers."""
    cameras = HELD_OUT_CAMERA if held_out else CAMERA
    objects = HELD_OUT_OBJECT if held_out else OBJECT
    if motion == AMBIENT_MOTION and not held_out and rng.random() < 0.7:
        return ambient_caption(rng)
    parts = []
    if motion.object != "still":
        phrase = str(rng.choice(objects[motion.object]))
        parts.append(_with_subject(phrase, rng))
    if motion.camera != "still":
        parts.append(str(rng.choice(cameras[motion.camera])))
    if not parts:
        return _among_fillers([str(rng.choice(NOTHING))], rng)
    if rng.random() < 0.5:
        parts.reverse()
    adverbs = STRENGTH[motion.strength]
    if adverbs:
        adverb = str(rng.choice(adverbs))
        part = int(rng.integers(len(parts)))
        said = [adverb, parts[part]] if rng.random() < 0.6 else [parts[part], adverb]
        parts[part] = " ".join(said)
    return _among_fillers(parts, rng)


def ambient_caption(rng: np.random.Generator) -> str:
    """A prompt that asks for nothing in particular."""
    u = rng.random()
    if u < 0.4:
        return str(rng.choice(AMBIENT))
    if u < 0.8:
        return _among_fillers([str(rng.choice(SUBJECTS))], rng)
    return " ".join(_invented(rng) for _ in range(int(rng.integers(1, 4))))


def _with_subject(phrase: str, rng: np.random.Generator) -> str:
    return f"{rng.choice(SUBJECTS)} {phrase}" if rng.random() < 0.5 else phrase


def _among_fillers(parts: list[str], rng: np.random.Generator) -> str:
    parts = list(parts)
    if rng.random() < 0.2:
        parts.insert(int(rng.integers(len(parts) + 1)), str(rng.choice(FILLERS)))
    if rng.random() < 0.1:
        parts.insert(int(rng.integers(len(parts) + 1)), _invented(rng))
    return (" and ", ", ", " while ")[rng.choice(3, p=[0.25, 0.6, 0.15])].join(parts)


def _invented(rng: np.random.Generator) -> str:
    return "".join(rng.choice(LETTERS, int(rng.integers(3, 9))))


def vocabulary() -> list[str]:
    """Every word that names a motion, sorted: what a prompt keeps first when it is too long."""
    groups = [*CAMERA.values(), *OBJECT.values(), *STRENGTH.values(), NOTHING, AMBIENT]
    words = {word for phrases in groups for phrase in phrases for word in phrase.split()}
    return sorted(words - STOP_WORDS)
