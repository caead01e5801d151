"""Model profiles: what a pool serves, with its limits. Each engine declares its own."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.domain.job.clip_size import ClipSize
from app.domain.job.served_sizes import longest_sides
from app.domain.prompt.reading import Grammar

DEFAULT_PROFILE = "motion-small"


class Option(StrEnum):
    """A field of a request that some models have no use for."""

    PROMPT = "prompt"
    NEGATIVE_PROMPT = "negative_prompt"
    MOTION = "motion"
    LOOP = "loop"


# What a profile honours that does not say.
USUAL_OPTIONS = frozenset({Option.PROMPT, Option.MOTION, Option.LOOP})


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A named model. Times in seconds, sizes in pixels of the longest side."""

    name: str
    engine: str  # the folder in workers/engines, or the entry point, that renders it
    network: str = ""  # which network of a model directory; "" if the engine has no model
    grammar: Grammar | None = None  # how its prompts are read; None: the engine takes free text
    targets: bool = False  # whether it moves the subject or the background alone, as prompts say
    licence: str
    licence_limits: str = ""  # in words, what the licence forbids; "": nothing of note
    licence_accepted_by: str = ""  # who accepted a licence with limits
    steps: int  # of the denoiser, unless MODEL_STEPS says otherwise
    passes: int  # forwards of the denoiser per step
    cost_factor: float = 1.0  # work per frame, pixel and forward, relative to motion-small
    min_frames: int
    max_frames: int
    default_frames: int
    frames_multiple: int = 1  # a clip has frames_multiple * k + frames_plus frames
    frames_plus: int = 0
    min_fps: int
    max_fps: int
    default_fps: int
    min_size: int
    max_size: int
    default_size: int
    sizes: tuple[ClipSize, ...] = ()  # all that it renders; empty: any, in the picture's shape
    honours: frozenset[Option] = USUAL_OPTIONS  # the API refuses the others
    attempt_limit_s: float  # one attempt, begin to finish; the reaper enforces it
    stall_limit_s: float  # without progress for this long, the worker ends itself
    has_model: bool = True  # False: it computes its clip instead of generating it
    source: Path | None = field(default=None, compare=False)  # the file that declares it

    def takes_frames(self, frames: int) -> bool:
        """Whether a clip may have this many frames."""
        on_grid = (frames - self.frames_plus) % self.frames_multiple == 0
        return on_grid and self.min_frames <= frames <= self.max_frames

    def nearest_frames(self, frames: float) -> int:
        """The number of frames nearest to `frames` that a clip may have."""
        steps = round((frames - self.frames_plus) / self.frames_multiple)
        nearest = steps * self.frames_multiple + self.frames_plus
        return min(self.max_frames, max(self.min_frames, nearest))

    def takes_size(self, size: int) -> bool:
        """Whether a clip may have this longest side."""
        if self.sizes:
            return size in longest_sides(self.sizes)
        return self.min_size <= size <= self.max_size

    @property
    def picture_side(self) -> int:
        """The longest side to store pictures with: a crop to another shape needs more pixels."""
        return 2 * self.max_size if self.sizes else self.max_size


def refusals(
    profile: Profile,
    *,
    frames: int,
    fps: int,
    size: int,
    prompt: str = "",
    negative_prompt: str = "",
    motion: float = 1.0,
    loop: bool = False,
) -> list[tuple[str, str]]:
    """What the profile does not serve: (field, sentence with the values that it takes)."""
    name, found = profile.name, []
    if not profile.takes_frames(frames):
        found.append(("frames", f"{name} takes {_frames_taken(profile, frames)}."))
    if not profile.min_fps <= fps <= profile.max_fps:
        found.append(("fps", f"{name} takes {_range(profile.min_fps, profile.max_fps)}."))
    if not profile.takes_size(size):
        sides = longest_sides(profile.sizes)
        taken = " or ".join(map(str, sides)) or f"{profile.min_size} to {profile.max_size}"
        found.append(("size", f"{name} takes {taken}."))
    unused = frozenset(Option) - profile.honours
    if Option.PROMPT in unused and prompt.strip():
        found.append(("prompt", f"{name} takes no prompt."))
    if Option.NEGATIVE_PROMPT in unused and negative_prompt.strip():
        honoured = [option for option in Option if option in profile.honours]
        taken = " and ".join(honoured) or "nothing of the kind"
        found.append(("negative_prompt", f"{name} takes no negative prompt; it takes {taken}."))
    if Option.MOTION in unused and motion != 1.0:
        found.append(("motion", f"{name} takes only 1."))
    if Option.LOOP in unused and loop:
        found.append(("loop", f"{name} takes only false."))
    return found


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _frames_taken(profile: Profile, frames: int) -> str:
    low, high, step = profile.min_frames, profile.max_frames, profile.frames_multiple
    taken = _range(low, high)
    if step == 1 or low == high:
        return taken
    taken += f" in steps of {step}"
    if not low < frames < high:
        return taken
    below = (frames - profile.frames_plus) // step * step + profile.frames_plus
    return f"{taken}; the nearest are {below} and {below + step}"


def misfits(profile: Profile) -> list[tuple[str, str]]:
    """Contradictions in a profile: (sentence, key)."""
    found = []
    for unit in ("frames", "fps", "size"):
        low, default, high = (
            getattr(profile, f"{end}_{unit}") for end in ("min", "default", "max")
        )
        if not low <= high:
            found.append((f"max_{unit} must be at least min_{unit}, {low}", f"max_{unit}"))
        elif not low <= default <= high:
            found.append((f"default_{unit} must be {low} to {high}", f"default_{unit}"))
    rule = f"must be {profile.frames_multiple}k + {profile.frames_plus}"
    for key in ("min_frames", "default_frames", "max_frames"):
        if (getattr(profile, key) - profile.frames_plus) % profile.frames_multiple:
            found.append((f"{key} {rule}", key))
    sides = longest_sides(profile.sizes)
    if sides and profile.default_size not in sides:
        among = ", ".join(map(str, sides))
        found.append((f"default_size must be the longest side of a size: {among}", "default_size"))
    if profile.grammar is Grammar.LAYERED_MOTION_WORDS and not profile.targets:
        found.append((f"{profile.grammar} needs targets = true", "grammar"))
    if profile.targets and profile.grammar is None:
        found.append(("targets needs a grammar", "targets"))
    if Option.NEGATIVE_PROMPT in profile.honours and profile.passes < 2:
        found.append(("negative_prompt has no effect without a second, guiding pass", "honours"))
    if profile.stall_limit_s > profile.attempt_limit_s:
        limit = f"{profile.attempt_limit_s:g}"
        found.append((f"stall_limit_s must be at most attempt_limit_s, {limit}", "stall_limit_s"))
    return found
