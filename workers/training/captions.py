"""Describes a scene's motion in words: a small paraphrase grammar.

Every motion has phrases for training and held-out phrases, which measure how well the text encoder
generalises. Subjects, fillers and invented words around them mean nothing, so that the encoder
learns to ignore unknown words.
"""

from dataclasses import dataclass

import numpy as np

from workers.pipeline.text import STOP_WORDS
from workers.training.phrases import (
    AMBIENT,
    CAMERA,
    FILLERS,
    HELD_OUT_CAMERA,
    HELD_OUT_OBJECT,
    LETTERS,
    NOTHING,
    OBJECT,
    STRENGTH,
    SUBJECTS,
)


@dataclass(frozen=True)
class Motion:
    """What happens in a scene."""

    camera: str
    object: str
    strength: str
    target: str = ""  # what the object motion moves: "subject", "background", or unsaid


# The meaning of AMBIENT, of a prompt with only unknown words, and of an empty prompt.
AMBIENT_MOTION = Motion("zoom in", "sway", "gentle")


def caption(motion: Motion, rng: np.random.Generator, *, held_out: bool = False) -> str:
    """Describe a motion; draws phrases, their order, adverbs, subjects and fillers."""
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
        pair = [adverb, parts[part]] if rng.random() < 0.6 else [parts[part], adverb]
        parts[part] = " ".join(pair)
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
    return "".join(rng.choice(list(LETTERS), int(rng.integers(3, 9))))


def vocabulary() -> list[str]:
    """Every word that names a motion, sorted: the words that a long prompt keeps."""
    groups = [*CAMERA.values(), *OBJECT.values(), *STRENGTH.values(), NOTHING, AMBIENT]
    words = {word for phrases in groups for phrase in phrases for word in phrase.split()}
    return sorted(words - STOP_WORDS)
