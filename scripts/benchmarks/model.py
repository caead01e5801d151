"""motion-small: the gain and cost of each step from stock diffusers to the shipped student.

Times are medians of interleaved repeats on this machine; every factor is a ratio of two medians.
"Stock" is the same network as diffusers runs it: fp32, context repeated per frame, 32 steps with
their three passes in one batch. A clip is JPEG in, MP4 out, 512 px, 48 frames at 24 fps. Quality
comes from workers/training/evaluate.py, on photos that packages ship.
"""

import copy
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmarks import model_layers
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.processes import peak_rss_mb
from scripts.benchmarks.timing import interleaved
from scripts.stack.data import ROOT
from workers.engines.motion.engine import load_picture
from workers.media.encode import encode_mp4
from workers.media.streamed import StreamedClip
from workers.pipeline.animation import SHIPPED, Animation, pick_dtype
from workers.pipeline.compile import Graph
from workers.pipeline.composite import Composite
from workers.pipeline.loader import STUDENT, TEACHER, Sampling, load_config, load_network
from workers.pipeline.matte import load_matte
from workers.pipeline.picture import picture_in_square
from workers.pipeline.subjects import Subjects
from workers.training import arms, evaluate, plots, report
from workers.training.prepare import packaged_photos

PHOTO = ROOT / "scripts/assets/cat.jpg"
CACHE = ROOT / "build/eval-photos"
PLOTS = ROOT / "docs/model"
SIZE, FRAMES, FPS = 512, 48, 24
# Figures of quality.
GUIDED, UNDISTILLED = "teacher 15 x 3, DPM-Solver++", "undistilled 4 x 1"
SERVED, HELD_OUT = "student 4 x 1", "student 4 x 1, held-out phrases"
READ = f"{HELD_OUT} read by the grammar"  # as a job sends them
ARMS = (GUIDED, "teacher 32 x 3", "undistilled", "student")
QUICK_ARMS = (GUIDED, UNDISTILLED, SERVED)
# The background bends, so the whole network runs. Without that, only a small part of it does.
SOFT_PROMPT = "gently background sway, zoom in"
PROMPT = "gently subject pulse, zoom in"  # plain words for: the cat breathes, slow zoom in


def run(*, quick: bool) -> list[Figure]:
    """Measure everything; also print a factor for each step."""
    stages = denoising_stages()
    slow = [name for name, (_, each) in stages.items() if each.sampling.guided] if quick else []
    times = interleaved(
        {name: stage for name, (stage, _) in stages.items()}, 2 if quick else 5, once=slow
    )
    picture = jpeg_of(PHOTO, SIZE)
    student = stages["graph"][1]
    fresh = copy.copy(student)
    fresh.subjects = Subjects(load_matte())
    # Stock runs its UNet whatever is asked for, so it is compared where the student does, too.
    clips = interleaved(
        {
            "stock": lambda: clip(picture, stages["fp32 32 x 3"][1], SOFT_PROMPT),
            "student, something bends": lambda: clip(picture, student, SOFT_PROMPT),
            "student": lambda: clip(picture, student, PROMPT),
            "student, new picture": lambda: clip(picture, fresh, PROMPT, forget=True),
        },
        3 if quick else 7,
        once=["stock"] if quick else [],
    )
    cold = json.loads(
        subprocess.run(
            [sys.executable, "-m", "scripts.benchmarks.model", PHOTO],
            stdout=subprocess.PIPE,
            check=True,
            cwd=ROOT,
            timeout=300,
        ).stdout
    )
    print(ablation(times))
    fixed = fixed_share(picture, student)
    print("fixed share:", ", ".join(f"{name} {1e3 * s:.0f} ms" for name, s in fixed.items()))
    fp32, bf16, shared, steps15, distilled, graph = times.values()
    quality = quality_figures(quick=quick)
    psnr, _ = frame0(picture, student)
    layers = model_layers.figures(student, quick=quick)
    return [
        Figure("passes_per_clip", student.sampling.steps, at_most=8),
        Figure("denoiser_speedup_vs_stock", fp32 / graph, at_least=24),
        Figure(
            "clip_speedup_vs_stock",
            clips["stock"] / clips["student, something bends"],
            at_least=6,
        ),
        Figure("factor_bf16", fp32 / bf16),
        Figure("factor_shared_context", bf16 / shared),
        Figure("factor_steps15", shared / steps15),
        Figure("factor_distilled", steps15 / distilled),
        Figure("factor_graph", distilled / graph),
        Figure("clip_p50_s", clips["student, new picture"], at_most=0.6),
        Figure("clip_cached_matte_p50_s", clips["student"], at_most=0.4),
        Figure("clip_that_bends_p50_s", clips["student, something bends"]),
        Figure("peak_rss_mb", cold["peak_rss_mb"], at_most=1100),
        Figure("cold_start_s", cold["cold_start_s"], at_most=5),
        Figure("flops_share_of_ceiling", flops_share(student, graph)),
        Figure("frame0_psnr_db", psnr, at_least=38),
        *quality,
        *layers,
    ]


def quality_figures(*, quick: bool) -> list[Figure]:
    """What the networks do on composites of photos whose true motion is known.

    quick: on few, without the arms that only the table and the plots show.
    """
    count, wanted = (16, QUICK_ARMS) if quick else (256, ARMS)
    photos = packaged_photos(CACHE)
    results = evaluate.run(SHIPPED, photos, count=count, wanted=wanted, processes=2)
    print(report.table(results, report.SHEET_PX[count]))
    if not quick:
        PLOTS.mkdir(parents=True, exist_ok=True)
        plots.curve(results, PLOTS / "quality-against-passes.png")
        plots.confusion(report.pairs_of(results[SERVED].measured), PLOTS / "confusion.png")
    s = {name: report.summary(result.measured) for name, result in results.items()}
    teacher, undistilled, served = (s[name] for name in (GUIDED, UNDISTILLED, SERVED))
    error, hits = teacher["end_point_error_px"], 100 * teacher["adherence"]
    model = arms.Model(SHIPPED)
    strength = evaluate.camera_strengths(model, results[SERVED].arm, photos, 1 if quick else 8)
    return [
        Figure("adherence_composites", hits, at_least=92),
        Figure("adherence_student", 100 * served["adherence"], at_least=hits - 1),
        Figure("adherence_undistilled", 100 * undistilled["adherence"]),
        Figure("adherence_paraphrases", 100 * s[HELD_OUT]["adherence"], at_least=82),
        Figure("adherence_paraphrases_read", 100 * s[READ]["adherence"], at_least=82),
        Figure("adherence_ripple", 100 * served["adherence_ripple"], at_least=85),
        Figure("composite_error_ratio", error / report.SHEET_PX[count], at_most=0.7),
        Figure("endpoint_error_ratio", served["end_point_error_px"] / error, at_most=1.15),
        Figure("endpoint_error_undistilled_ratio", undistilled["end_point_error_px"] / error),
        Figure("camera_strength_slope", strength["camera_strength_slope"], 1.1, 0.9),
        Figure("camera_strength", strength["camera_strength"], 1.1, 0.9),
    ]


def ablation(times: dict[str, float]) -> str:
    """The saving of each change, as a Markdown table."""
    lines = ["| denoising one clip | ms | step | so far |", "|---|---|---|---|"]
    before = first = next(iter(times.values()))
    for name, seconds in times.items():
        step, whole = before / seconds, first / seconds
        lines.append(f"| {name} | {1e3 * seconds:.0f} | {step:.2f} x | {whole:.1f} x |")
        before = seconds
    return "\n".join(lines)


def denoising_stages() -> dict[str, tuple[Callable[[], object], Animation]]:
    """From stock to shipped, one change per stage: a denoising call, and the animation."""
    config = load_config(SHIPPED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    low = pick_dtype("auto", device)
    ddim32 = replace(config.sampling[TEACHER], steps=32, order=1)
    fast15 = replace(config.sampling[TEACHER], steps=15)
    student = config.sampling[STUDENT]
    matte = load_matte()

    def animation(
        name: str, dtype: torch.dtype, sampling: Sampling, shared: bool, graph: str = "eager"
    ) -> Animation:
        network = load_network(SHIPPED, name, config, dtype, device)
        made = Animation(network, config, sampling, graph, Subjects(matte))
        if not shared:
            made.network = load_network(SHIPPED, name, config, dtype, device)
            stock = made.network.one_pass(repeat=True).eval()
            made.run = Graph(stock, "eager", made.example())
        return made

    made = {
        "fp32 32 x 3": animation(TEACHER, torch.float32, ddim32, False),
        "bf16": animation(TEACHER, low, ddim32, False),
        "shared context": animation(TEACHER, low, ddim32, True),
        "15 x 3": animation(TEACHER, low, fast15, True),
        f"distilled {student.steps} x 1": animation(STUDENT, low, student, True),
        "graph": animation(STUDENT, low, student, True, "torchscript"),
    }
    return {name: (denoising(each), each) for name, each in made.items()}


def denoising(animation: Animation) -> Callable[[], object]:
    """A call that denoises a clip whose background bends, and leaves the animation as it is."""
    shape = animation.config.network.picture
    picture = picture_in_square(load_picture(jpeg_of(PHOTO, SIZE), SIZE).pixels, shape)
    seen = torch.cat([picture, torch.zeros(1, shape, shape)])[None]
    tokens = animation.tokenise(SOFT_PROMPT)[None]
    noise = animation.noise.draw(1, torch.Generator().manual_seed(0))
    return lambda: animation.sample(seen, tokens, noise, animation.sampling.steps)


def jpeg_of(path: Path, size: int) -> bytes:
    """The picture as the API stores it, with `size` pixels on its longest side."""
    with Image.open(path) as opened:
        scale = size / max(opened.size)
        width, height = (round(side * scale) for side in opened.size)
        image = opened.convert("RGB").resize((width, height))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=92)
        return out.getvalue()


def clip(jpeg: bytes, animation: Animation, prompt: str, *, forget: bool = False) -> bytes:
    """A worker's job between fetching the picture and storing the clip.

    forget: as if the worker had never seen the picture, so that its matte is made as well.
    """
    if forget:
        animation.subjects.forget()
    picture = load_picture(jpeg, SIZE)
    frames = animation.animate(picture, prompt, seed=0, frames=FRAMES, yuv=True)
    return StreamedClip.of(frames, FPS).video()


def fixed_share(jpeg: bytes, animation: Animation) -> dict[str, float]:
    """Seconds of each stage of a clip outside the denoiser."""
    picture = load_picture(jpeg, SIZE)
    matte = animation.subjects.find(picture.pixels)
    motion = animation.denoise(picture.pixels, matte, PROMPT, 0)

    def composite() -> Composite:
        return animation.composite(picture, motion, matte, FRAMES, yuv=True)

    def anew() -> Composite:
        animation.subjects.forget()
        return composite()

    frames = list(composite())
    return interleaved(
        {
            "decode": lambda: load_picture(jpeg, SIZE),
            "take apart": anew,
            "composite": lambda: list(composite()),
            "encode": lambda: encode_mp4(frames, FPS),
        },
        3,
    )


def frame0(jpeg: bytes, animation: Animation) -> tuple[float, float]:
    """Luma PSNR of the MP4's first frame against the picture, dB; and the MP4's Mbit/s."""
    mp4 = clip(jpeg, animation, PROMPT)
    with av.open(io.BytesIO(mp4), "r") as container:
        first = next(container.decode(video=0))
        got = first.to_ndarray(format="yuv420p")[: first.height].astype(float)
    picture = load_picture(jpeg, SIZE).pixels
    height, width = (side - side % 2 for side in picture.shape[:2])  # as the converter needs
    frame = av.VideoFrame.from_ndarray(picture[:height, :width].copy(), format="rgb24")
    wanted = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709).to_ndarray()
    error = np.square(got[:height, :width] - wanted[:height].astype(float)).mean()
    return 10 * np.log10(255**2 / error), len(mp4) * 8 * FPS / FRAMES / 1e6


def flops_share(animation: Animation, denoise_s: float) -> float:
    """FLOP/s of denoising over those of a plain matrix product in the same dtype."""
    example = animation.example()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        animation.run.module(*example)
    achieved = counter.get_total_flops() * animation.sampling.steps / denoise_s
    a = torch.randn(1024, 1024).to(animation.network.unet.dtype)
    best = min(interleaved({"product": lambda: a @ a}, 9).values())
    return float(achieved / (2 * 1024**3 / best))


def cold_start(photo: Path) -> dict[str, float]:
    """Load, warm up and render in this process, as a worker does."""
    started = time.perf_counter()
    animation = Animation.load(graph="torchscript")
    animation.warm_up()
    warm_s = time.perf_counter() - started
    clip(jpeg_of(photo, SIZE), animation, PROMPT)
    # Not getrusage: there, a process starts with the peak of the one that started it.
    return {"cold_start_s": warm_s, "peak_rss_mb": peak_rss_mb(os.getpid())}


if __name__ == "__main__":
    print(json.dumps(cold_start(Path(sys.argv[1]))))
