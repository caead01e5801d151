"""Toy checkpoints of real families: real classes, random weights, saved as published ones are.

Each is a folder that the engine loads as it loads the full-size one, and a profile in TOML. They
render 9 frames of 64x64 in about a second.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.support.toys.lightricks import DISTILLED, ltx, ltx2
from tests.support.toys.others import cogvideox, hunyuan15, svd
from tests.support.toys.wan import LIGHTNING, TAUGHT, wan21, wan22, wan22_ti2v


@dataclass(frozen=True)
class Toy:
    """A family. `build` makes its pipeline; `table` is the [diffusers] of its profile."""

    name: str
    build: Callable[[], object]
    table: str
    frames_multiple: int = 4
    steps: int = 4
    passes: int = 1
    honours: tuple[str, ...] = ("prompt",)
    sizes: tuple[str, ...] = ("64x64", "96x64")

    def save(self, folder: Path) -> Path:
        """Save the checkpoint in a folder of that name; returns it."""
        torch.manual_seed(0)
        path = folder / self.name
        self.build().save_pretrained(path)
        return path

    def profile(
        self,
        folder: Path,
        *,
        extra: str = "",
        table: tuple[str, str] | None = None,
        **changes: object,
    ) -> Path:
        """Write the profile next to the checkpoint; returns the file.

        `changes` replace keys of the profile; `table` replaces a text in its table by another, and
        `extra` is added to its end.
        """
        keys: dict[str, object] = {
            "name": self.name,
            "engine": "diffusers",
            "licence": "Apache-2.0",
            "steps": self.steps,
            "passes": self.passes,
            "min_frames": 1 + self.frames_multiple,
            "max_frames": 25,
            "default_frames": 9,
            "frames_multiple": self.frames_multiple,
            "frames_plus": 1,
            "min_fps": 8,
            "max_fps": 8,
            "default_fps": 8,
            "sizes": list(self.sizes),
            "default_size": 64,
            "honours": list(self.honours),
            "attempt_limit_s": 120.0,
            "stall_limit_s": 30.0,
        } | changes
        lines = [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
        own = f'[diffusers]\nfolder = "{self.name}"\nactivations_gib = 0.1\n{self.table}'
        if table is not None:
            assert table[0] in own
            own = own.replace(*table, 1)
        path = folder / f"{keys['name']}.toml"
        path.write_text("\n".join([*lines, "", own + extra]))
        return path


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


CALL = "\n[diffusers.call]\nguidance_scale = 1.0\n"

TOYS = {
    toy.name: toy
    for toy in (
        Toy(
            "wan22",
            wan22,
            f'{LIGHTNING}loop = "last_image"\n{CALL}max_sequence_length = 16\n',
            honours=("prompt", "loop"),
        ),
        Toy(
            "wan22-ti2v",
            wan22_ti2v,
            f'{TAUGHT}first_frame = "kept"\n\n[diffusers.call]\nguidance_scale = 5.0\n'
            'negative_prompt = "blurry"\nmax_sequence_length = 16\n',
            steps=3,
            passes=2,
            honours=("prompt", "negative_prompt"),
        ),
        Toy("wan21", wan21, f"{LIGHTNING}{CALL}max_sequence_length = 16\n"),
        Toy(
            "ltx",
            ltx,
            'pipeline = "LTXImageToVideoPipeline"\ndtype = { default = "fp32" }\n'
            f'{DISTILLED}first_frame = "generated"\n{CALL}max_sequence_length = 16\n',
            steps=8,
            frames_multiple=8,
        ),
        Toy(
            "ltx-condition",
            ltx,
            'pipeline = "LTXConditionPipeline"\ndtype = { default = "fp32" }\n'
            f'{DISTILLED}first_frame = "generated"\nloop = "conditions"\n{CALL}'
            "image_cond_noise_scale = 0.0\nmax_sequence_length = 16\n",
            steps=8,
            frames_multiple=8,
            honours=("prompt", "loop"),
        ),
        Toy(
            "ltx2",
            ltx2,
            'pipeline = "LTX2ImageToVideoPipeline"\ndtype = { default = "fp32" }\n'
            f'{DISTILLED}first_frame = "generated"\n{CALL}'
            "stg_scale = 0.0\nmodality_scale = 1.0\naudio_guidance_scale = 1.0\n"
            "audio_stg_scale = 0.0\naudio_modality_scale = 1.0\nmax_sequence_length = 16\n",
            steps=8,
            frames_multiple=8,
        ),
        Toy(
            "svd",
            svd,
            'pipeline = "StableVideoDiffusionPipeline"\ndtype = { default = "fp32" }\n'
            'first_frame = "generated"\n'
            'motion = { argument = "motion_bucket_id", at_1 = 127, least = 1, most = 255 }\n'
            "\n[diffusers.call]\ndecode_chunk_size = 8\n",
            steps=3,
            passes=2,
            honours=("motion",),
        ),
        Toy(
            "hunyuan15",
            hunyuan15,
            'pipeline = "HunyuanVideo15ImageToVideoPipeline"\ndtype = { default = "fp32" }\n'
            "sigmas = [1.0, 0.95, 0.8, 0.5]\n"
            'first_frame = "generated"\n',
            sizes=("64x64",),
        ),
        Toy(
            "cogvideox",
            cogvideox,
            'pipeline = "CogVideoXImageToVideoPipeline"\ndtype = { default = "fp32" }\n'
            f'first_frame = "generated"\n{CALL}max_sequence_length = 16\n',
            sizes=("64x64",),
        ),
    )
}
