"""Model profiles: what a pool serves, with its limits. Each engine declares its own."""

from dataclasses import dataclass

from app.domain.prompt.reading import Grammar

DEFAULT_PROFILE = "motion-small"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A named model. Times in seconds, sizes in pixels of the longest side."""

    name: str
    engine: str  # the folder in workers/engines that renders it
    network: str = ""  # which network of a model directory; "" if the engine has no model
    grammar: Grammar | None = None  # how its prompts are read; None: the engine takes free text
    targets: bool = False  # whether it moves the subject or the background alone, as prompts say
    licence: str
    steps: int  # of the denoiser, unless MODEL_STEPS says otherwise
    passes: int  # forwards of the denoiser per step
    min_frames: int
    max_frames: int
    default_frames: int
    min_fps: int
    max_fps: int
    default_fps: int
    min_size: int
    max_size: int
    default_size: int
    attempt_limit_s: float  # one attempt, begin to finish; the reaper enforces it
    stall_limit_s: float  # without progress for this long, the worker ends itself


def misfits(profile: Profile) -> list[tuple[str, str]]:
    """Contradictions in a profile: (sentence, field)."""
    found = []
    for unit in ("frames", "fps", "size"):
        low, default, high = (
            getattr(profile, f"{end}_{unit}") for end in ("min", "default", "max")
        )
        if not low <= high:
            found.append((f"max_{unit} must be at least min_{unit}, {low}", f"max_{unit}"))
        elif not low <= default <= high:
            found.append((f"default_{unit} must be {low} to {high}", f"default_{unit}"))
    if profile.grammar is Grammar.LAYERED_MOTION_WORDS and not profile.targets:
        found.append((f"{profile.grammar} needs targets = true", "grammar"))
    if profile.targets and profile.grammar is None:
        found.append(("targets needs a grammar", "targets"))
    if profile.stall_limit_s > profile.attempt_limit_s:
        limit = f"{profile.attempt_limit_s:g}"
        found.append((f"stall_limit_s must be at most attempt_limit_s, {limit}", "stall_limit_s"))
    return found
