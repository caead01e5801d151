"""The diffusers engine: any image-to-video pipeline of the library, from a folder and a profile.

A profile's table `[diffusers]` says all that is particular about a model (table.py); nothing here
knows a family by name except where one needs it: decoding (decoding.py), and what some families
would do wrong without an error (calls.py, attention.py, loading.py).
"""

import gc
import io
from importlib.resources import files
from typing import Any

import structlog
import torch
from PIL import Image

from app.config.profiles_file import ProfilesFileError
from app.config.settings import ConfigError, ModelSettings
from app.domain.errors import Permanent
from app.domain.job.clip_size import ClipSize
from app.domain.job.profiles import Profile, refusals
from app.domain.job.served_sizes import cropped_box, nearest_size
from workers.engines.base import OnStep, RenderSpec
from workers.engines.diffusers.attention import set_attention
from workers.engines.diffusers.calls import Prepared, arguments, check_call, check_grid
from workers.engines.diffusers.checkpoint import check_licence, check_sums, open_checkpoint
from workers.engines.diffusers.decoding import decode, streams, to_pixels
from workers.engines.diffusers.loading import load_pipeline, pipeline_class
from workers.engines.diffusers.loras import apply_loras
from workers.engines.diffusers.memory import check_fits
from workers.engines.diffusers.prompts import remember_prompts
from workers.engines.diffusers.pulse import Pulse
from workers.engines.diffusers.schedule import check_seen, scheduler_for
from workers.engines.diffusers.sources import home_of, locate
from workers.engines.diffusers.table import DiffusersTable, read_table
from workers.engines.diffusers.unusable import Unusable
from workers.engines.whole import Whole
from workers.media.decode import report_frames
from workers.media.encode import encode_mp4
from workers.media.frames import Frames

log = structlog.get_logger(__name__)


def load(profile: Profile, config: ModelSettings) -> Whole:
    """Load a profile's checkpoint; cheap checks first. Raises ConfigError, Unusable."""
    try:
        table = read_table(profile)
    except ProfilesFileError as error:
        raise ConfigError(str(error)) from None
    if (steps := config.steps_of(profile)) != profile.steps and table.sigmas is not None:
        raise ConfigError(
            f"MODEL_STEPS is {steps}, but {profile.name} has noise levels for {profile.steps}."
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Whole(DiffusersEngine.load(profile, table, device))


class DiffusersEngine:
    """One loaded checkpoint."""

    def __init__(self, profile: Profile, table: DiffusersTable, pipe: Any, version: str):
        self._profile = profile
        self._table = table
        self._pipe = pipe
        self._pulse = Pulse(pipe)
        self.version = version

    @classmethod
    def load(
        cls, profile: Profile, table: DiffusersTable, device: torch.device
    ) -> "DiffusersEngine":
        """Load onto a device. Raises Unusable."""
        check_licence(profile)
        pipeline_class(table.pipeline)
        checkpoint = open_checkpoint(locate(profile, table), table.variant)
        check_sums(checkpoint, table.sha256)
        weights = checkpoint.weight_bytes(table)
        check_fits(weights, table.activations_gib, device, offload=table.offload)
        pipe = load_pipeline(checkpoint, table)
        pipe.scheduler = scheduler_for(table, pipe.scheduler)
        check_call(profile, table, pipe)
        check_grid(profile, pipe)
        apply_loras(pipe, table, home_of(profile))
        set_attention(pipe, table)
        _place(pipe, device, offload=table.offload)
        return cls(profile, table, pipe, checkpoint.version)

    def warm_up(self) -> None:
        """Render a real picture at every served size. Raises Unusable."""
        picture = files(__package__).joinpath("warm_up.jpg").read_bytes()
        profile = self._profile
        for size in profile.sizes:
            spec = RenderSpec(
                prompt="",
                seed=0,
                frames=profile.default_frames,
                fps=profile.default_fps,
                size=max(size),
                steps=profile.steps,
            )
            order = Prepared(spec, _crop(_open(picture), size.width, size.height))
            with self._pulse.noting_times() as times:
                try:
                    self.render(order, lambda _step: None)
                except (ValueError, TypeError, RuntimeError, AttributeError) as error:
                    what = f"{size.width}x{size.height}, {spec.frames} frames"
                    name = self._table.pipeline
                    raise Unusable(f"{name} cannot render {what}: {error}") from error
            self._check_guidance()
            if self._table.sigmas is not None:
                check_seen(self._pipe.scheduler, self._table.sigmas, times)

    def prepare(self, spec: RenderSpec, picture: bytes) -> Prepared:
        """Crop the picture to the nearest size. Raises Permanent for what is not served."""
        profile = self._profile
        wrong = refusals(
            profile,
            frames=spec.frames,
            fps=spec.fps,
            size=spec.size,
            prompt=spec.prompt,
            motion=spec.motion,
            loop=spec.loop,
        )
        if wrong:  # the API has another profile of this name
            raise Permanent(f"{wrong[0][0]}: {wrong[0][1]}")
        image = _open(picture)
        size = nearest_size(*image.size, spec.size, profile.sizes)
        return Prepared(spec, _crop(image, size.width, size.height))

    def render(self, prepared: Prepared, on_step: OnStep) -> Frames:
        """Make the frames; once more if memory runs out, after emptying the cache.

        Raises Permanent (out_of_memory), RenderFailed (numerical_error), and what `on_step` raises.
        """
        try:
            return self._render(prepared, on_step)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            log.warning("model_memory_emptied", error=str(error))
        # Outside the clause: the exception kept the tensors of the call alive.
        _empty_cache()
        try:
            return self._render(prepared, on_step)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            detail = str(error).partition("\n")[0]
        _empty_cache()
        size, frames = prepared.picture.size, prepared.spec.frames
        raise Permanent(
            f"No memory for {size[0]}x{size[1]}, {frames} frames, even with nothing else: {detail}",
            code="out_of_memory",
        )

    def encode(self, rendered: Frames, on_step: OnStep) -> bytes:
        """The MP4. Uses no GPU."""
        return encode_mp4(report_frames(iter(rendered), on_step), rendered.fps)

    def _render(self, prepared: Prepared, on_step: OnStep) -> Frames:
        pipe, spec = self._pipe, prepared.spec
        given = self._arguments(prepared)
        streamed = streams(pipe)
        try:
            with torch.no_grad(), self._pulse.listening(on_step):
                made = pipe(**given, output_type="latent" if streamed else "pt")
                if self._pulse.steps_done != spec.steps:
                    done = self._pulse.steps_done
                    raise Unusable(f"The pipeline made {done} steps instead of {spec.steps}.")
                frames = []
                for frame in decode(pipe, made.frames if streamed else made.frames[0]):
                    frames.append(to_pixels(frame))
                    self._pulse.beat()
        finally:
            pipe.maybe_free_model_hooks()  # a stopped call did not
        width, height = prepared.picture.size
        wanted = [(height, width, 3)] * spec.frames
        if [frame.shape for frame in frames] != wanted:
            got = f"{len(frames)} frames of {frames[0].shape[1]}x{frames[0].shape[0]}"
            raise Unusable(f"Made {got} instead of {spec.frames} of {width}x{height}.")
        return Frames(frames, spec.fps)

    def _arguments(self, prepared: Prepared) -> dict[str, Any]:
        return arguments(self._profile, self._table, self._pipe, prepared)

    def _check_guidance(self) -> None:
        """A guided step costs two passes; a distilled model must not be guided at all."""
        guided = getattr(self._pipe, "do_classifier_free_guidance", None)
        if guided is not None and bool(guided) != (self._profile.passes > 1):
            passes = self._profile.passes
            raise Unusable(
                f"passes is {passes}, but {self._table.pipeline} was"
                f" {'' if guided else 'not '}guided; set its guidance in [diffusers.call]."
            )


def _place(pipe: Any, device: torch.device, *, offload: bool) -> None:
    if offload:
        remember_prompts(pipe)
        if device.type != "cpu":
            pipe.enable_model_cpu_offload(device=device)
            return
    pipe.to(device)


def _open(picture: bytes) -> Image.Image:
    with Image.open(io.BytesIO(picture), formats=["JPEG", "PNG"]) as image:
        return image.convert("RGB")


def _crop(image: Image.Image, width: int, height: int) -> Image.Image:
    box = cropped_box(*image.size, ClipSize(width, height))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU's allocator has no class of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "can't allocate memory" in str(error)
    )


def _empty_cache() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
