"""The diffusers engine: any image-to-video pipeline of the library, from a folder and a profile.

A profile's table `[diffusers]` says all that is particular about a model (table.py); nothing here
knows a family by name except where one needs it: decoding (decoding.py), and what some families
would do wrong without an error (calls.py, attention.py, loading.py).
"""

import atexit
import gc
import io
from importlib.resources import files
from typing import Any

import structlog
import torch
from PIL import Image

from app.config.profiles_file import ProfilesFileError
from app.config.settings import ConfigError, ModelSettings
from app.domain.errors import Permanent, RenderFailed
from app.domain.job.clip_size import ClipSize
from app.domain.job.profiles import Profile, refusals
from app.domain.job.served_sizes import cropped_box, nearest_size
from app.domain.worker_phase import WorkerPhase
from stillmotion.errors import StillmotionError
from workers.engines import phases
from workers.engines.base import OnStep, RenderSpec
from workers.engines.diffusers import graphs, parallel
from workers.engines.diffusers.attention import set_attention
from workers.engines.diffusers.calls import Prepared, arguments, check_call, check_grid
from workers.engines.diffusers.checkpoint import (
    Checkpoint,
    check_licence,
    check_sums,
    open_checkpoint,
)
from workers.engines.diffusers.decoding import decode, streams, to_pixels
from workers.engines.diffusers.leader import Leader
from workers.engines.diffusers.loading import load_pipeline, outline, pipeline_class
from workers.engines.diffusers.loras import apply_loras, check_loras
from workers.engines.diffusers.members import Member
from workers.engines.diffusers.memory import check_fits
from workers.engines.diffusers.prompts import remember_prompts
from workers.engines.diffusers.pulse import Pulse
from workers.engines.diffusers.schedule import check_seen, scheduler_for
from workers.engines.diffusers.sources import home_of, locate, packages_of
from workers.engines.diffusers.table import DiffusersTable, read_table
from workers.engines.diffusers.unusable import Unusable
from workers.media.decode import report_frames
from workers.media.encode import encode_mp4
from workers.media.frames import Frames

log = structlog.get_logger(__name__)


def load(profile: Profile, config: ModelSettings) -> "DiffusersEngine":
    """Load a profile's checkpoint; cheap checks first. Raises ConfigError, Unusable."""
    try:
        table = read_table(profile)
    except ProfilesFileError as error:
        raise ConfigError(str(error)) from None
    if (steps := config.steps_of(profile)) != profile.steps and table.sigmas is not None:
        raise ConfigError(
            f"MODEL_STEPS is {steps}, but {profile.name} has noise levels for {profile.steps}."
        )
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if table.parallel.gpus == 1:
        return DiffusersEngine.load(profile, table, device)
    checkpoint = check_before_loading(profile, table, device)
    # Before followers are started: those of a refused profile would load for nothing.
    check_outline(profile, table, checkpoint)
    shared = table.parallel
    leader = Leader(profile, Member(0, shared.gpus, device, shared.passes))
    leader.start()  # they load while we do
    try:
        engine = DiffusersEngine.build(profile, table, device, checkpoint)
    except BaseException:
        leader.stop(patience_s=0.0)
        raise
    atexit.register(leader.stop)
    engine.lead(leader)
    return engine


def check_before_loading(
    profile: Profile, table: DiffusersTable, device: torch.device
) -> Checkpoint:
    """What can be known without reading a tensor. Raises Unusable."""
    check_licence(profile)
    pipeline_class(table.pipeline)
    parallel.check_devices(table)
    checkpoint = open_checkpoint(locate(profile, table), table.variant)
    check_sums(checkpoint, table.sha256)
    weights = checkpoint.weight_bytes(table)
    check_fits(weights, table.activations_gib, device, offload=table.offload)
    return checkpoint


def check_outline(profile: Profile, table: DiffusersTable, checkpoint: Checkpoint) -> None:
    """What classes, configurations and shapes decide, again without a tensor. Raises Unusable."""
    pipe = outline(checkpoint, table)
    _fit(profile, table, pipe)
    check_loras(pipe, table, home_of(profile))
    set_attention(pipe, table)
    for name in table.graphs:
        graphs.component(pipe, name)


class DiffusersEngine:
    """One loaded checkpoint."""

    def __init__(self, profile: Profile, table: DiffusersTable, pipe: Any, version: str):
        self._profile = profile
        self._table = table
        self._pipe = pipe
        self._pulse = Pulse(pipe)
        self._leader: Leader | None = None
        self._member: Member | None = None
        self._shares: parallel.Shares | None = None
        self._graphs: list[graphs.Graphs] = []
        self.version = version

    @classmethod
    def load(
        cls, profile: Profile, table: DiffusersTable, device: torch.device
    ) -> "DiffusersEngine":
        """Load onto a device. Raises Unusable."""
        return cls.build(profile, table, device, check_before_loading(profile, table, device))

    @classmethod
    def build(
        cls,
        profile: Profile,
        table: DiffusersTable,
        device: torch.device,
        checkpoint: Checkpoint,
    ) -> "DiffusersEngine":
        """Load a checkpoint that looks well. Raises Unusable."""
        pipe = load_pipeline(checkpoint, table)
        _fit(profile, table, pipe)
        apply_loras(pipe, table, home_of(profile))
        set_attention(pipe, table)
        _place(pipe, device, offload=table.offload)
        made = graphs.apply(pipe, table, packages_of(profile, table))
        engine = cls(profile, table, pipe, checkpoint.version)
        engine._graphs = made
        return engine

    def warm_up(self) -> None:
        """Render a real picture at every served size. Raises Unusable."""
        picture = files(__package__).joinpath("warm_up.jpg").read_bytes()
        profile = self._profile
        compiles = "compile" in self._table.graphs.values()
        for number, size in enumerate(profile.sizes):
            if compiles:  # the first call does
                phases.enter(WorkerPhase.WARMING if number else WorkerPhase.COMPILING)
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
                    self._render_warming(order)
                except (ValueError, TypeError, RuntimeError, AttributeError) as error:
                    what = f"{size.width}x{size.height}, {spec.frames} frames"
                    name = self._table.pipeline
                    raise Unusable(f"{name} cannot render {what}: {error}") from error
            self._check_guidance()
            if self._table.sigmas is not None:
                check_seen(self._pipe.scheduler, self._table.sigmas, times)
        for each in self._graphs:
            each.seal()

    def _render_warming(self, order: Prepared) -> None:
        """Render; without compiled parts, for good, if they cannot be compiled here."""
        try:
            self.render(order, lambda _step: None)
        except Exception as error:  # compilers raise anything
            if not graphs.undo(self._pipe):
                raise
            compiled = [name for name, kind in self._table.graphs.items() if kind == "compile"]
            graphs.refuse(", ".join(compiled), "compile", graphs.in_one_line(error))
            self.render(order, lambda _step: None)

    def prepare(self, spec: RenderSpec, picture: bytes) -> Prepared:
        """Crop the picture to the nearest size. Raises Permanent for what is not served."""
        profile = self._profile
        wrong = refusals(
            profile,
            frames=spec.frames,
            fps=spec.fps,
            size=spec.size,
            prompt=spec.prompt,
            negative_prompt=spec.negative_prompt,
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
        if self._leader is not None:
            return self._render_leading(self._leader, prepared, on_step)
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

    def lead(self, leader: Leader) -> None:
        """Render with followers from now on; `leader` has started them."""
        self._leader = leader

    def follow(self, member: Member) -> None:
        """Be one of those that render what the leader renders."""
        self._member = member
        if self._shares is None:
            self._shares = parallel.Shares(self._pipe, self._table, member)
        else:
            self._shares.rejoin(member)

    def render_along(self, prepared: Prepared) -> None:
        """A follower's part of a clip. Raises Stopped if the leader was asked to stop."""
        pipe, together = self._pipe, self._table.parallel.vae == "sharded"
        streamed = streams(pipe)
        try:
            with torch.no_grad(), self._pulse.listening(_ignore, self._member):
                given = self._arguments(prepared)
                made = pipe(**given, output_type="pt" if together and not streamed else "latent")
                if together and streamed:
                    for _frame in decode(pipe, made.frames, self._pulse.between):
                        pass  # the leader has got it
        finally:
            pipe.maybe_free_model_hooks()

    def _render_leading(self, leader: Leader, prepared: Prepared, on_step: OnStep) -> Frames:
        """Render with the group. Raises RenderFailed (group_failed) if that breaks."""
        if leader.meet(lambda: on_step(None)):
            self.follow(leader.member)
        leader.order(prepared)
        try:
            return self._render(prepared, on_step)
        except BaseException as error:
            if not self._pulse.together:
                raise
            # The others wait for this member in the middle of a step, or are gone.
            leader.restart()
            if not isinstance(error, Exception) or isinstance(error, StillmotionError):
                raise
            detail = str(error).partition("\n")[0]
            raise RenderFailed(f"The group broke: {detail}", code="group_failed") from error

    def encode(self, rendered: Frames, on_step: OnStep) -> bytes:
        """The MP4. Uses no GPU."""
        return encode_mp4(report_frames(iter(rendered), on_step), rendered.fps)

    def _render(self, prepared: Prepared, on_step: OnStep) -> Frames:
        pipe, spec = self._pipe, prepared.spec
        given = self._arguments(prepared)
        streamed = streams(pipe)
        try:
            together = self._table.parallel.vae == "sharded"
            with (
                torch.no_grad(),
                self._pulse.listening(on_step, self._member, None if together else spec.steps),
            ):
                made = pipe(**given, output_type="latent" if streamed else "pt")
                if not streamed:
                    self._pulse.part_alone()
                if self._pulse.steps_done != spec.steps:
                    done = self._pulse.steps_done
                    raise Unusable(f"The pipeline made {done} steps instead of {spec.steps}.")
                frames = []
                video = made.frames if streamed else made.frames[0]
                for frame in decode(pipe, video, self._pulse.between):
                    try:
                        frames.append(to_pixels(frame))
                    except RenderFailed as error:
                        self._pulse.fail(error)
                    self._pulse.beat()
                self._pulse.part_alone()
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


def _fit(profile: Profile, table: DiffusersTable, pipe: Any) -> None:
    """Give the pipeline the profile's scheduler; raises Unusable if they do not go together."""
    pipe.scheduler = scheduler_for(table, pipe.scheduler)
    check_call(profile, table, pipe)
    check_grid(profile, pipe)
    parallel.check(profile, table, pipe)


def _place(pipe: Any, device: torch.device, *, offload: bool) -> None:
    if offload:
        remember_prompts(pipe)
        if device.type != "cpu":
            pipe.enable_model_cpu_offload(device=device)
            return
    pipe.to(device)


def _ignore(_step: int | None) -> None:
    """Followers tell nobody."""


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
