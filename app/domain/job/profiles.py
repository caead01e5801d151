"""Model profiles: what a pool serves, with its limits."""

from dataclasses import dataclass

DEFAULT_PROFILE = "motion-small"


@dataclass(frozen=True)
class Profile:
    """A named model. Times in seconds, sizes in pixels of the longest side."""

    name: str
    steps: int
    passes: int  # forwards of the denoiser per step
    licence: str
    network: str = ""  # which network of a model directory; none for a profile without a model
    min_frames: int = 8
    max_frames: int = 96
    default_frames: int = 48
    min_fps: int = 8
    max_fps: int = 30
    default_fps: int = 24
    min_size: int = 64
    max_size: int = 1024
    default_size: int = 512
    attempt_limit_s: float = 300.0  # one attempt, begin to finish; the reaper enforces it
    stall_limit_s: float = 60.0  # no progress for this long: the worker gives the job up


PROFILES = {
    profile.name: profile
    for profile in (
        # The student, distilled from the teacher: one pass per step instead of three.
        Profile(DEFAULT_PROFILE, steps=4, passes=1, licence="Apache-2.0", network="student"),
        Profile(
            "motion-small-teacher", steps=15, passes=3, licence="Apache-2.0", network="teacher"
        ),
        # Renders nothing: a fixed clip, after a wait that the worker's settings give. It carries
        # load tests and fault tests through every real part except the model.
        Profile(
            "noop",
            steps=1,
            passes=0,
            licence="Apache-2.0",
            attempt_limit_s=120.0,
            stall_limit_s=20.0,
        ),
    )
}
