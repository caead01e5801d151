"""Shared by training and distillation: learning rate, averages, a log, a state that resumes."""

import argparse
import csv
import math
import signal
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from workers.pipeline.animation import pick_dtype
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.loader import (
    ModelConfig,
    save_config,
    save_weights,
)
from workers.training.batches import batches
from workers.training.scenes import Batch
from workers.training.steps import LossOf, Steps

LOG_COLUMNS = ["step", "loss", "grad_norm", "learning_rate", "wall_s"]


class Probe(Protocol):
    """Looks at a running optimisation."""

    def note(self, parts: dict[str, Tensor]) -> None: ...

    def __call__(self, step: int, weights: dict[str, Tensor]) -> None: ...


class State(TypedDict):
    """What state.pt holds: everything needed to go on."""

    step: int
    log: list[list[float]]  # rows of LOG_COLUMNS
    wall_s: float
    network: dict[str, Tensor]
    optimizer: dict[str, Any]  # as the optimizer's own state_dict
    ema: dict[str, Tensor]
    config: dict[str, Any]


def progress(step: int, seconds: float, args: argparse.Namespace) -> float:
    """How much of a run is over, 0 to 1: of its steps or of --finish-minutes."""
    return float(max(step / args.steps, seconds / (60 * args.finish_minutes)))


def learning_rate(step: int, done: float, args: argparse.Namespace) -> float:
    """Warm-up, constant, then down to zero over the last part of the run.

    Constant in the middle so that a run can be ended earlier or later than planned by resuming
    it with another --steps (Hägele et al. 2024, arXiv:2405.18392).
    """
    down = (1 - done) / args.decay_share
    rate: float = args.lr * min(1.0, (step + 1) / args.warmup_steps, max(down, 0.0))
    return rate


@torch.no_grad()
def average(ema: dict[str, Tensor], now: dict[str, Tensor], step: int, decay: float) -> None:
    """Update an exponential moving average, short at first because weights then change fast."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(ema.values()), [now[key] for key in ema], 1 - decay)


def add_arguments(parser: argparse.ArgumentParser, *, steps: int, batch: int, lr: float) -> None:
    """Add the flags of both scripts."""
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the state and the model")
    add("--resume", action="store_true", help="go on from <out>/state.pt")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2, help="CPU threads")
    add("--processes", type=int, default=0, help="that make scenes; 0: this one does")
    # How long
    add("--steps", type=int, default=steps)
    add("--minutes", type=float, default=math.inf, help="save and stop after this time")
    add(
        "--finish-minutes",
        type=float,
        default=math.inf,
        help="end the run, with the rate at zero, after this time or after --steps",
    )
    add("--save-minutes", type=float, default=5.0)
    # How
    add("--batch", type=int, default=batch)
    add("--lr", type=float, default=lr)
    add("--warmup-steps", type=int, default=100)
    add("--decay-share", type=float, default=0.3, help="share of the steps with a falling rate")
    add("--ema", type=float, default=0.999)
    add("--grad-clip", type=float, default=1.0)
    add("--log-every", type=int, default=10)
    add("--probe-every", type=int, default=200)


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def fast(place: torch.device) -> Iterator[None]:
    """bf16 if the hardware supports it, and attention kernels with a quick backward pass.

    For temporal attention's sequences of 8 tokens, the fused CPU kernel's backward pass takes as
    long as everything else together; the plain one does not.
    """
    # Emulated bf16 is ten times slower than fp32.
    able = pick_dtype("auto", place.type) == torch.bfloat16
    kernels = sdpa_kernel(SDPBackend.MATH) if place.type == "cpu" else nullcontext()
    # Weights that were cast once must not outlive a recorded step.
    cached = place.type == "cpu"
    with kernels, torch.autocast(place.type, torch.bfloat16, enabled=able, cache_enabled=cached):
        yield


def optimise(
    args: argparse.Namespace,
    network: LayeredDenoiser,
    config: ModelConfig,
    name: str,
    loss_of: LossOf,
    make: Callable[[int], Batch],
    kind_of: Callable[[int], Hashable],
    probe: Probe | None = None,
) -> State:
    """Minimise loss_of(batch, kind, draw); see Steps.

    make(step) gives a step's batch and kind_of(step) its kind. Nothing here waits for a GPU but the
    log.

    Writes <out>/state.pt (everything needed to go on) and <out>/model/ (the averaged weights as
    `name`) every --save-minutes, at SIGTERM, SIGINT and at the end. Returns the state saved last.
    `probe` gets the parts of every loss, and the averaged weights every --probe-every steps.
    """
    place = next(network.parameters()).device
    steps = Steps(network, loss_of, args.grad_clip)
    optimizer = steps.optimizer
    current = network.state_dict()  # the weights themselves, which change in place
    ema = {key: value.clone() for key, value in current.items()}
    step, wall_before, log = 0, 0.0, list[list[float]]()
    if args.resume:
        state: State = torch.load(args.out / "state.pt", map_location=place, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        ema = state["ema"]
        step, wall_before, log = state["step"], state["wall_s"], state["log"]
    size = sum(p.numel() for p in network.parameters())
    print(f"{size / 1e6:.2f} M parameters on {place}; {vars(args)}", flush=True)

    stopped: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    start = saved = time.monotonic()
    running: list[Tensor] = []
    made = batches(make, step, args.steps, args.processes)

    def save_now() -> State:
        state = State(
            step=step,
            log=log,
            wall_s=wall_before + time.monotonic() - start,
            network=network.state_dict(),
            optimizer=optimizer.state_dict(),
            ema=ema,
            config=asdict(config),
        )
        _save(args.out, state, config, name)
        return state

    while step < args.steps:
        done = progress(step, wall_before + time.monotonic() - start, args)
        if done >= 1:
            break
        rate, seed = learning_rate(step, done, args), args.seed * 1_000_003 + step
        loss, grad_norm, parts = steps(next(made), kind_of(step), rate, seed)
        average(ema, current, step, args.ema)
        running.append(loss)
        if probe is not None:
            probe.note(parts)
        step += 1
        now = time.monotonic()
        if step % args.log_every == 0 or step == args.steps:
            wall_s = wall_before + now - start
            mean = torch.stack(running).mean().item()
            log.append(
                [step, round(mean, 5), round(float(grad_norm), 4), round(rate, 7), round(wall_s, 1)]
            )
            running = []
            print(
                f"step {step:6d}  loss {mean:.4f}  grad {grad_norm:.3f}  {wall_s:.0f} s", flush=True
            )
        if probe is not None and step % args.probe_every == 0:
            probe(step, ema)
        if stopped or now - start > args.minutes * 60:
            break
        if now - saved > args.save_minutes * 60:
            save_now()
            saved = now
    return save_now()


def _save(out: Path, state: State, config: ModelConfig, name: str) -> None:
    """Write the state, then the model, atomically."""
    out.mkdir(parents=True, exist_ok=True)
    part = out / "state.pt.part"
    torch.save(state, part)
    part.replace(out / "state.pt")
    save_config(out / "model", config)
    save_weights(out / "model", name, state["ema"])
    with (out / "training-log.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(LOG_COLUMNS)
        rows.writerows(state["log"])
