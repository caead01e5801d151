"""Prompts for layered motion: mostly the plain words that the engine sends, and free ones."""

import numpy as np

from workers.training import captions
from workers.training.captions import AMBIENT_MOTION, Motion
from workers.training.motions import BACKGROUND, SUBJECT
from workers.training.phrases import (
    CAMERA,
    FILLERS,
    HELD_OUT_CAMERA,
    HELD_OUT_OBJECT,
    NOTHING,
    OBJECT,
    STRENGTH,
    SUBJECTS,
)

PLAIN = 0.5  # share of the prompts in plain words
ADVERBS = {"gentle": "gently ", "normal": "", "strong": "strongly "}
# What names the thing that moves, before a verb and after it.
NAMED = {
    SUBJECT: (
        ["subject", "the subject", "only the subject", "just the subject", "the main subject"],
        ["in front", "in the foreground"],
    ),
    BACKGROUND: (
        ["background", "the background", "only the background", "just the background"],
        ["in the background", "behind it"],
    ),
}
FILLERS_HERE = [filler for filler in FILLERS if filler != "in the background"]


def plain(motion: Motion) -> str:
    """The words that the engine sends for a motion."""
    moving = []
    if motion.object != "still":
        moving.append(f"{motion.target} {motion.object}".strip())
    if motion.camera != "still":
        moving.append(motion.camera)
    return ADVERBS[motion.strength] + ", ".join(moving) if moving else "still"


def prompt(
    motion: Motion,
    rng: np.random.Generator,
    *,
    held_out: bool = False,
    plain_share: float = PLAIN,
) -> str:
    """Describe a motion, in plain words or with phrases, adverbs, subjects and fillers.

    With `held_out`, phrases that training never uses.
    """
    if not held_out and rng.random() < plain_share:
        return plain(motion)
    if motion == AMBIENT_MOTION and not held_out and rng.random() < 0.7:
        return captions.ambient_caption(rng)
    cameras, objects = (HELD_OUT_CAMERA, HELD_OUT_OBJECT) if held_out else (CAMERA, OBJECT)
    parts = []
    if motion.object != "still":
        phrase = str(rng.choice([*objects[motion.object], *_plain_share(held_out, motion.object)]))
        parts.append(_named(phrase, motion.target, rng))
    if motion.camera != "still":
        choices = [*cameras[motion.camera], *_plain_share(held_out, motion.camera)]
        parts.append(str(rng.choice(choices)))
    if not parts:
        parts.append(str(rng.choice(NOTHING)))
        return captions.among_fillers(parts, rng, FILLERS_HERE)
    if rng.random() < 0.5:
        parts.reverse()
    if adverbs := STRENGTH[motion.strength]:
        adverb, at = str(rng.choice(adverbs)), int(rng.integers(len(parts)))
        pair = [adverb, parts[at]] if rng.random() < 0.6 else [parts[at], adverb]
        parts[at] = " ".join(pair)
    return captions.among_fillers(parts, rng, FILLERS_HERE)


def vocabulary() -> list[str]:
    """Every word that names a motion or what moves, sorted."""
    named = {word for before, after in NAMED.values() for p in before + after for word in p.split()}
    return sorted({*captions.vocabulary(), *named} - {"the", "it"})


def _plain_share(held_out: bool, name: str) -> list[str]:
    return [] if held_out else [name] * 3


def _named(phrase: str, target: str, rng: np.random.Generator) -> str:
    if not target:
        return f"{rng.choice(SUBJECTS)} {phrase}" if rng.random() < 0.5 else phrase
    before, after = NAMED[target]
    if rng.random() < 0.75:
        return f"{rng.choice(before)} {phrase}"
    return f"{phrase} {rng.choice(after)}"
