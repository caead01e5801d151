"""A tiny motion model: saved to a directory, or trained for a few seconds."""

from pathlib import Path

import torch

from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.loader import STUDENT, TEACHER, save_config, save_weights
from workers.training.train import model_config, parse_args


def write_model(directory: Path) -> Path:
    """Save a model with random weights in both networks."""
    config = model_config(toy=True)
    torch.manual_seed(0)
    save_config(directory, config)
    for name in (TEACHER, STUDENT):
        save_weights(directory, name, LayeredDenoiser(config.network).state_dict())
    return directory


def arguments(out: Path, steps: int, *more: str):
    """Arguments for a training run of `steps` steps."""
    options = ["--out", str(out), "--toy", "--batch", "2", "--motions", "2", "--log-every", "1"]
    options += ["--threads", "1"]
    return parse_args([*options, "--steps", str(steps), "--warmup-steps", "4", *more])
