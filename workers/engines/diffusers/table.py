"""The table `[diffusers]` of a profile file: what the engine must know of a checkpoint.

    [diffusers]
    pipeline = "WanImageToVideoPipeline"     # loaded as this class, whatever model_index.json says
    folder = "Wan2.2-I2V-A14B-Diffusers"     # relative to the profile file; or:
    hub = "Wan-AI/Wan2.2-I2V-A14B-Diffusers" # a repository, with the commit of
    revision = "..."                         # 40 hexadecimal digits
    variant = "fp16"                         # of the weight files; omit it for the plain ones
    dtype = { default = "bf16", vae = "fp32" }
    sigmas = [1.0, 0.9375, 0.8333, 0.625]    # as published; omit them for the scheduler's own
    scheduler = "FlowMatchEulerDiscreteScheduler"   # omit it for the checkpoint's
    scheduler_config = { shift = 5.0 }       # changes to its configuration
    attention = "native"                     # the library's name of a back end
    graphs = { transformer = "compile" }     # eager, torchscript, compile or aoti: see graphs.py
    packages = "packages"                    # of `models compile`, relative to the profile file;
                                             # without it, NAME.packages
    parallel = { gpus = 2, vae = "leader" }  # for one clip; vae: who decodes, or "sharded";
                                             # guidance = true: half of the GPUs for each pass
    offload = false                          # true: only the part that works is on the GPU
    activations_gib = 9.0                    # memory for one clip, beyond the weights
    first_frame = "kept"                     # the picture, but for the VAE; or "generated"
    loop = "last_image"                      # how a loop is closed; or "conditions"
    motion = { argument = "motion_bucket_id", at_1 = 127, least = 1, most = 255 }

    [[diffusers.lora]]
    file = "high_noise.safetensors"          # relative to the profile file
    component = "transformer"                # or transformer_2, the second expert
    strength = 1.0
    fuse = true                              # into the weights: costs nothing later

    [diffusers.call]                         # further arguments of the pipeline
    guidance_scale = 1.0

    [diffusers.thresholds]                   # of `models check`; they may be left out
    first_frame_db = 20.0                    # first frame against the picture, if it is kept
    motion = 1.0                             # mean change of a level, first to last frame, at least
    drift = 40.0                             # change of the mean colour, at most

    [diffusers.sha256]                       # of files in the folder
    "transformer/diffusion_pytorch_model.safetensors" = "..."

Reading it needs neither torch nor diffusers.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from app.config.profiles_file import ProfilesFileError
from app.config.toml_file import Table, TomlFile
from app.domain.job.profiles import Option, Profile

ClassName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9_]*$")]
Component = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Dtype = Literal["bf16", "fp16", "fp32"]
Graph = Literal["eager", "torchscript", "compile", "aoti"]
Sigma = Annotated[float, Field(gt=0)]

# Arguments that the engine sets from the request and the profile.
OURS = frozenset(
    {
        *("image", "height", "width", "num_frames", "num_inference_steps", "generator"),
        *("output_type", "return_dict", "fps", "frame_rate", "last_image", "conditions", "sigmas"),
        *("timesteps", "latents", "num_videos_per_prompt", "callback_on_step_end"),
    }
)


class Lora(Table):
    file: str
    component: Component
    strength: float = 1.0
    fuse: bool = True


class MotionArgument(Table):
    """The argument gets `at_1` times the request's `motion`, rounded and kept in its range."""

    argument: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    at_1: Annotated[float, Field(gt=0)]
    least: int
    most: int


class Parallel(Table):
    """Several GPUs for one clip. Without it, one."""

    gpus: Annotated[int, Field(ge=1, le=8)] = 1
    vae: Literal["leader", "sharded"] = "leader"
    guidance: bool = False

    @property
    def passes(self) -> int:
        """How many forwards are made at the same time."""
        return 2 if self.guidance else 1

    @property
    def each(self) -> int:
        """GPUs that make one forward."""
        return self.gpus // self.passes


class GivenThresholds(Table):
    """What `models check` asks of a clip: see workers/models/checking.py."""

    first_frame_db: Annotated[float, Field(gt=0)] | None = None
    motion: Annotated[float, Field(ge=0)] | None = None
    drift: Annotated[float, Field(gt=0)] | None = None


class DiffusersTable(Table):
    pipeline: ClassName
    folder: str = ""
    hub: Repository | None = None
    revision: Revision | None = None
    variant: str | None = None
    dtype: Annotated[dict[Component, Dtype], Field(default_factory=lambda: {"default": "bf16"})]
    sigmas: Annotated[list[Sigma], Field(min_length=1, max_length=1000)] | None = None
    scheduler: ClassName | None = None
    scheduler_config: Annotated[dict[str, Any], Field(default_factory=dict)]
    attention: str | None = None
    graphs: Annotated[dict[Component, Graph], Field(default_factory=dict)]
    packages: Annotated[str, Field(min_length=1)] | None = None
    parallel: Annotated[Parallel, Field(default_factory=Parallel)]
    offload: bool = False
    activations_gib: Annotated[float, Field(ge=0)]
    first_frame: Literal["kept", "generated"]
    loop: Literal["last_image", "conditions"] | None = None
    motion: MotionArgument | None = None
    lora: Annotated[list[Lora], Field(default_factory=list)]
    call: Annotated[dict[str, Any], Field(default_factory=dict)]
    thresholds: GivenThresholds | None = None
    sha256: Annotated[dict[str, Digest], Field(default_factory=dict)]

    def dtype_of(self, component: str) -> Dtype:
        return self.dtype.get(component) or self.dtype.get("default", "bf16")


def read_table(profile: Profile) -> DiffusersTable:
    """The table of a profile's file. Raises ProfilesFileError, with lines; OSError."""
    assert profile.source is not None, "profiles come from files"
    toml = TomlFile(profile.source, ProfilesFileError)
    table = toml.check(DiffusersTable, within=profile.engine)
    if found := contradictions(profile, table):
        toml.refuse([(text, (profile.engine, *keys)) for text, keys in found])
    return table


def contradictions(
    profile: Profile, table: DiffusersTable
) -> list[tuple[str, tuple[str | int, ...]]]:
    """What cannot be true together: (sentence, keys in the table)."""
    found: list[tuple[str, tuple[str | int, ...]]] = []
    if not profile.sizes:
        found.append((f"profiles of the engine {profile.engine!r} list their sizes", ()))
    if bool(table.folder) == bool(table.hub):
        found.append(("needs either folder or hub", ()))
    if bool(table.hub) != bool(table.revision):
        found.append(("hub and revision go together", ()))
    if table.sigmas is not None:
        if len(table.sigmas) != profile.steps:
            text = (
                f"sigmas has {len(table.sigmas)} values, but the profile has {profile.steps} steps"
            )
            found.append((text, ("sigmas",)))
        if table.sigmas != sorted(set(table.sigmas), reverse=True):
            found.append(("sigmas must fall; the 0 at the end is understood", ("sigmas",)))
    for option, given in {Option.LOOP: table.loop, Option.MOTION: table.motion}.items():
        if option in profile.honours and given is None:
            found.append((f"the profile honours {option}, so {option} must say how", ()))
        if option not in profile.honours and given is not None:
            found.append((f"{option}: the profile does not honour it", (option,)))
    for name in table.call:
        if name in OURS or (name == "prompt" and Option.PROMPT in profile.honours):
            found.append((f"call: {name} is set by the engine", ("call", name)))
    if table.parallel.vae == "sharded" and "decode_chunk_size" in table.call:
        text = "call: decode_chunk_size has no meaning, because a shared VAE decodes in one go"
        found.append((text, ("call", "decode_chunk_size")))
    if table.parallel.vae == "sharded" and table.graphs.get("vae", "eager") != "eager":
        text = "graphs: a VAE that several GPUs share runs eagerly"
        found.append((text, ("graphs", "vae")))
    for name, kind in table.graphs.items():
        if kind in ("torchscript", "aoti") and table.offload:
            text = f"graphs: {kind} needs weights that stay in their place, not offload = true"
            found.append((text, ("graphs", name)))
        if kind in ("torchscript", "aoti") and table.parallel.gpus > 1:
            text = f"graphs: {kind} is for one GPU; a part that several share can be compile"
            found.append((text, ("graphs", name)))
    if table.packages is not None and "aoti" not in table.graphs.values():
        found.append(("packages: no part in graphs is aoti", ("packages",)))
    for number, lora in enumerate(table.lora):
        if Path(lora.file).suffix != ".safetensors":
            text = "file must be .safetensors: other files can run code when they are read"
            found.append((text, ("lora", number, "file")))
    return found
