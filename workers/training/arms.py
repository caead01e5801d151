"""The arms of an evaluation: which networks, how they are sampled, and in which words they are
asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from app.domain.prompt.reading import Grammar, understand
from workers.pipeline.animation import AMBIENT_PROMPT, pick_dtype
from workers.pipeline.guidance import GUIDED_PASSES
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.layers import LayeredMotion
from workers.pipeline.loader import (
    STUDENT,
    TEACHER,
    ModelConfig,
    Sampling,
    load_config,
    load_network,
)
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.text import Tokeniser
from workers.training.photos import PhotoSet
from workers.training.probe import unseen_scenes
from workers.training.prompts import prompt
from workers.training.run import device
from workers.training.sample import sample_motions
from workers.training.scenes import Scene

SEED = 20_261_126
MOST_SCENES = 512  # their noise is drawn together, so that scene n has the same for any count
# Straight to the network; and first through the grammar, as a worker does it.
PLAIN, FREE, HELD_OUT = "plain words", "free phrases", "held-out phrases"
READ_FREE, READ_HELD_OUT = f"{FREE} read by the grammar", f"{HELD_OUT} read by the grammar"
_READ = {READ_FREE: FREE, READ_HELD_OUT: HELD_OUT}


@dataclass(frozen=True)
class Arm:
    """A network and a way to sample and ask it."""

    sampler: str  # names the network and the sampling
    network: LayeredDenoiser
    sampling: Sampling
    words: str = PLAIN

    @property
    def name(self) -> str:
        return self.sampler if self.words == PLAIN else f"{self.sampler}, {self.words}"

    @property
    def passes(self) -> int:
        return self.sampling.steps * (GUIDED_PASSES if self.sampling.guided else 1)


class Model:
    """The networks of a model directory, and what sampling them takes."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.config: ModelConfig = load_config(directory)
        shape = self.config.network
        self.noise = LayeredNoise(shape.frames, shape.grid)
        self.starts = self.noise.draw(MOST_SCENES, torch.Generator().manual_seed(SEED))
        known = frozenset(self.config.vocabulary)
        self.tokenise = Tokeniser(shape.caption_length, shape.buckets, known)

    @property
    def version(self) -> str:
        return f"{self.config.name} {self.config.version}"

    def network(self, name: str) -> LayeredDenoiser:
        place = device().type
        return load_network(self.directory, name, self.config, pick_dtype("auto", place), place)

    def sample(
        self, arm: Arm, scenes: Sequence[Scene], numbers: Sequence[int] | None = None
    ) -> list[LayeredMotion]:
        """The motions of scenes; `numbers` are theirs in the evaluation, by default 0, 1, ..."""
        starts = self.starts[list(range(len(scenes)) if numbers is None else numbers)]
        scales = self.config.layer_scales
        return sample_motions(arm.network, starts, self.tokenise, scales, scenes, arm.sampling)


def arms(model: Model, wanted: Sequence[str] = ()) -> Iterator[Arm]:
    """The arms whose names begin with one of `wanted`; default: all."""
    guided = replace(model.config.sampling[TEACHER], order=1)  # DDIM, as in distillation
    fast = model.config.sampling[TEACHER]
    plain_steps = Sampling(4, guided=False, order=1, schedule="distilled")
    made = [
        ("teacher 32 x 3", TEACHER, replace(guided, steps=32), [PLAIN]),
        ("teacher 15 x 3, DPM-Solver++", TEACHER, fast, [PLAIN, FREE, HELD_OUT]),
        ("undistilled 32 x 1", TEACHER, replace(plain_steps, steps=32), [PLAIN]),
        ("undistilled 8 x 1", TEACHER, replace(plain_steps, steps=8), [PLAIN]),
        ("undistilled 4 x 1", TEACHER, plain_steps, [PLAIN]),
        # Of one step, the result is the mean of all that the words allow.
        ("undistilled 1 x 1", TEACHER, replace(plain_steps, steps=1), [PLAIN]),
        ("student 8 x 1", STUDENT, replace(plain_steps, steps=8), [PLAIN]),
        ("student 4 x 1", STUDENT, plain_steps, [PLAIN, FREE, HELD_OUT, READ_FREE, READ_HELD_OUT]),
    ]
    for sampler, name, sampling, ways in made:
        if not (model.directory / f"{name}.safetensors").exists():
            continue
        network = model.network(name)
        for words in ways:
            arm = Arm(sampler, network, sampling, words)
            if not wanted or any(arm.name.startswith(each) for each in wanted):
                yield arm


def composites(photos: PhotoSet | None, count: int, words: str = PLAIN) -> list[Scene]:
    """`count` scenes over the whole vocabulary, asked for in one kind of words."""
    return reworded(unseen_scenes(photos, count, seed=SEED), words)


def reworded(scenes: Sequence[Scene], words: str) -> list[Scene]:
    """The first scenes of an evaluation, which are in plain words, in another kind of words."""
    if words == PLAIN:
        return list(scenes)
    held_out = _READ.get(words, words) == HELD_OUT
    found = []
    for n, scene in enumerate(scenes):
        rng = np.random.default_rng((SEED, n))
        asked = prompt(scene.kind, rng, held_out=held_out, plain_share=0)
        found.append(replace(scene, prompt=as_sent(asked) if words in _READ else asked))
    return found


def as_sent(asked: str) -> str:
    """The words that the network gets of a prompt in a job."""
    understood = understand(Grammar.LAYERED_MOTION_WORDS, asked)
    words = asked if understood is None else understood.plain
    return words or AMBIENT_PROMPT
