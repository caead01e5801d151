"""What a job costs, in units: the work of one default clip of the default profile is 1."""

from app.domain.job.profiles import DEFAULT_PROFILE, PROFILES, Profile

_UNIT = PROFILES[DEFAULT_PROFILE]


def cost_units(profile: Profile, *, frames: int, size: int, steps: int) -> float:
    """Frames x pixels x forwards of the denoiser, relative to the default clip; above 0.

    `size`: longest side, pixels. Fair shares and usage count in it, so what matters is that a job
    of twice the work counts twice, not that it is seconds.
    """
    forwards = max(1, steps * profile.passes) / (_UNIT.steps * _UNIT.passes)
    pixels = (size / _UNIT.default_size) ** 2
    return frames / _UNIT.default_frames * pixels * forwards
