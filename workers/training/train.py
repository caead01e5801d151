"""Train the teacher of motion-small on procedural scenes.

    python -m workers.training.train --out runs/motion --steps 1500 --minutes 60
    python -m workers.training.train --out runs/motion --resume    # goes on where it stopped
    python -m workers.training.train --out runs/toy --toy --steps 20    # CPU, seconds

Writes <out>/state.pt (everything needed to go on) and <out>/model/ (the averaged weights, ready
for the pipeline) every --save-minutes, at SIGTERM, SIGINT and at the end. Scenes, noise and dropped
conditions follow from (seed, step) alone, so a resumed run takes the steps that an uninterrupted
one would have taken.
"""

import argparse
import csv
import math
import signal
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import clip_grad_norm_

from workers.pipeline.denoiser import DenoiserConfig, MotionDenoiser
from workers.pipeline.loader import ModelConfig, save_model
from workers.pipeline.text import PAD
from workers.training import captions, scenes

VERSION = "0.1.0"
# About the standard deviation of all motion: brings it to unit variance.
MOTION_SCALE = 0.06
# Chosen with evaluate.py; the table is in the model card.
STEPS, PICTURE_SCALE, TEXT_SCALE, BANDS = 15, 1.0, 1.5, 8
DEFAULT_PROMPT = "gentle sway, slow zoom in"
# Noise levels are those of uniform time, times one of these. What moves where is decided at high
# noise (see SIGMA_MAX in sampler.py); the lower half teaches the network to end without a wobble.
NOISE_SHIFTS = (1.0, 10.0)
# What the mean square of a scene's motion is compared with when scenes are weighted.
SMALL_MOTION = 0.1
# The three passes of guidance need the network without text, and without text and picture.
DROP_BOTH, DROP_TEXT = 0.08, 0.10


def model_config(toy: bool) -> ModelConfig:
    """The full model, or one that trains for a test in seconds."""
    words = captions.vocabulary()
    shape = DenoiserConfig(
        channels=(8, 16) if toy else (32, 64, 128),
        head_width=8 if toy else 32,
        words=len(words),
        caption_length=captions.LENGTH,
        text_width=16 if toy else 64,
        frames=scenes.FRAMES,
        grid=scenes.GRID,
        picture=scenes.PICTURE,
    )
    return ModelConfig(
        name="motion-small",
        version=VERSION,
        network=shape,
        vocabulary=words,
        motion_scale=MOTION_SCALE,
        steps=STEPS,
        picture_scale=PICTURE_SCALE,
        text_scale=TEXT_SCALE,
        bands=BANDS,
        default_prompt=DEFAULT_PROMPT,
    )


def make_batch(seed: int, step: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The scenes of one step: motion (B, 2, T, h, w), picture (B, 3, p, p), tokens (B, L)."""
    tokenise = captions.tokeniser()
    batch = [scenes.draw_scene(seed, step * size + i) for i in range(size)]
    motion = torch.from_numpy(np.stack([scene.motion for scene in batch])) / MOTION_SCALE
    picture = torch.from_numpy(np.stack([scene.picture for scene in batch])) * 2 - 1
    return motion, picture, torch.stack([tokenise(scene.caption) for scene in batch])


def diffusion_loss(
    network: torch.nn.Module, batch: tuple[Tensor, Tensor, Tensor], draw: torch.Generator
) -> Tensor:
    """Squared error of v at random noise levels, weighted by scene."""
    motion, picture, tokens = batch
    b = len(motion)
    u = torch.rand(b, generator=draw).clamp(0.002, 0.998)
    shift = torch.tensor(NOISE_SHIFTS)[torch.arange(b) % len(NOISE_SHIFTS)]
    time_ = torch.atan(shift * torch.tan(u * math.pi / 2)) * 2 / math.pi
    noise = torch.randn(motion.shape, generator=draw)
    drop = torch.rand(b, generator=draw)
    device = next(network.parameters()).device
    motion, picture, tokens, time_, noise, drop = (
        x.to(device) for x in (motion, picture, tokens, time_, noise, drop)
    )
    picture = torch.where((drop < DROP_BOTH)[:, None, None, None], 0.0, picture)
    tokens = torch.where((drop < DROP_BOTH + DROP_TEXT)[:, None], PAD, tokens)
    angle = (time_ * math.pi / 2)[:, None, None, None, None]
    noisy = angle.cos() * motion + angle.sin() * noise
    target = angle.cos() * noise - angle.sin() * motion
    bf16 = device.type == "cuda" or torch.backends.mkldnn.is_available()
    # The plain kernel: for the 16-token sequences of temporal attention, the fused CPU kernel's
    # backward pass takes as long as everything else together.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        v = network(noisy, time_, picture, tokens)
    # A swaying flower moves a twentieth of what a pan moves (mean square) and matters as much.
    weight = 1 / (motion.square().mean((1, 2, 3, 4)) + SMALL_MOTION)
    return ((v.float() - target).square().mean((1, 2, 3, 4)) * weight).mean()


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Warm-up, constant, then down to zero over the last part of the steps.

    Constant in the middle so that a run can be ended earlier or later than planned by resuming
    it with another --steps (Hägele et al. 2024, arXiv:2405.18392).
    """
    down = (args.steps - step) / (args.steps * args.decay_share)
    return args.lr * min(1.0, (step + 1) / args.warmup_steps, max(down, 0.0))


@torch.no_grad()
def average(ema: dict[str, Tensor], network: torch.nn.Module, step: int, decay: float) -> None:
    """Exponential moving average; short at first, when the weights still change fast."""
    decay = min(decay, (1 + step) / (10 + step))
    for key, value in network.state_dict().items():
        ema[key].lerp_(value, 1 - decay)


def save(out: Path, state: dict, config: ModelConfig) -> None:
    """Write the state, then the model, atomically."""
    out.mkdir(parents=True, exist_ok=True)
    part = out / "state.pt.part"
    torch.save(state, part)
    part.replace(out / "state.pt")
    save_model(out / "model", config, state["ema"])
    with (out / "training-log.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["step", "loss", "grad_norm", "learning_rate", "wall_s"])
        rows.writerows(state["log"])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the teacher of motion-small.")
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the state and the model")
    add("--resume", action="store_true", help="go on from <out>/state.pt")
    add("--toy", action="store_true", help="a tiny network, to try the code")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2, help="CPU threads")
    # How long
    add("--steps", type=int, default=1500)
    add("--minutes", type=float, default=math.inf, help="save and stop after so long")
    add("--save-minutes", type=float, default=5.0)
    # How
    add("--batch", type=int, default=16)
    add("--lr", type=float, default=8e-4)
    add("--warmup-steps", type=int, default=100)
    add("--decay-share", type=float, default=0.3, help="share of the steps with a falling rate")
    add("--ema", type=float, default=0.999)
    add("--grad-clip", type=float, default=1.0)
    add("--log-every", type=int, default=10)
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> dict:
    """Train as told. Returns the state that was saved last."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = model_config(args.toy)
    network = MotionDenoiser(config.network).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=0.01)
    ema = {key: value.clone() for key, value in network.state_dict().items()}
    state = {"step": 0, "log": [], "wall_s": 0.0}
    if args.resume:
        state = torch.load(args.out / "state.pt", map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        ema = state["ema"]
    size = sum(p.numel() for p in network.parameters())
    print(f"{size / 1e6:.2f} M parameters on {device}; {vars(args)}", flush=True)

    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    start = saved = time.monotonic()
    wall_before, running = state["wall_s"], []

    def save_now(step: int) -> None:
        state.update(step=step, network=network.state_dict(), optimizer=optimizer.state_dict())
        state.update(ema=ema, wall_s=wall_before + time.monotonic() - start)
        state.update(config=asdict(config))
        save(args.out, state, config)

    step = state["step"]
    while step < args.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        draw = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        loss = diffusion_loss(network, make_batch(args.seed, step, args.batch), draw)
        loss.backward()
        grad_norm = clip_grad_norm_(network.parameters(), args.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average(ema, network, step, args.ema)
        running.append(loss.item())
        step += 1
        now = time.monotonic()
        if step % args.log_every == 0 or step == args.steps:
            wall_s = wall_before + now - start
            mean, lr = float(np.mean(running)), learning_rate(step - 1, args)
            state["log"].append(
                [step, round(mean, 5), round(float(grad_norm), 4), round(lr, 7), round(wall_s, 1)]
            )
            running = []
            print(
                f"step {step:6d}  loss {mean:.4f}  grad {grad_norm:.3f}  {wall_s:.0f} s", flush=True
            )
        if stopped or now - start > args.minutes * 60:
            break
        if now - saved > args.save_minutes * 60:
            save_now(step)
            saved = now
    save_now(step)
    return state


if __name__ == "__main__":
    train(parse_args())
