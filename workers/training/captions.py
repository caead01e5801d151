"""Describes a scene's motion in words: a small paraphrase grammar.

Every motion has phrases for training and held-out phrases, which measure how well the text encoder
generalises. Subjects, fillers and invented words around them mean nothing, so that the encoder
learns to ignore unknown words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.pipeline.text import STOP_WORDS
from workers.training.phrases import (
    AMBIENT,
    CAMERA,
    FILLERS,
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


def ambient_caption(rng: np.random.Generator) -> str:
    """A prompt that asks for nothing in particular."""
    u = rng.random()
    if u < 0.4:
        return str(rng.choice(AMBIENT))
    if u < 0.8:
        return among_fillers([str(rng.choice(SUBJECTS))], rng)
    return " ".join(_invented(rng) for _ in range(int(rng.integers(1, 4))))


def among_fillers(
    parts: list[str], rng: np.random.Generator, fillers: Sequence[str] = FILLERS
) -> str:
    """Join the parts of a prompt; now and then with a filler and an invented word among them."""
    parts = list(parts)
    if rng.random() < 0.2:
        parts.insert(int(rng.integers(len(parts) + 1)), str(rng.choice(fillers)))
    if rng.random() < 0.1:
        word = _invented(rng)
        parts.insert(int(rng.integers(len(parts) + 1)), word)
    return (" and ", ", ", " while ")[rng.choice(3, p=[0.25, 0.6, 0.15])].join(parts)


def _invented(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(LETTERS), int(rng.integers(3, 9))))


def vocabulary() -> list[str]:
    """Every word that names a motion, sorted: the words that a long prompt keeps."""
    groups = [*CAMERA.values(), *OBJECT.values(), *STRENGTH.values(), NOTHING, AMBIENT]
    words = {word for phrases in groups for phrase in phrases for word in phrase.split()}
    return sorted(words - STOP_WORDS)
