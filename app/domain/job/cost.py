"""The cost of a job in units: one default clip of the default profile costs 1."""

from app.domain.job.profiles import Profile

# The default clip when the unit was fixed. Fair shares and usage records count in this unit, so a
# new default profile must not change it.
UNIT_FRAMES = 48
UNIT_SIZE_PX = 512
UNIT_FORWARDS = 4


def cost_units(profile: Profile, *, frames: int, size: int, steps: int) -> float:
    """Frames x pixels x forwards of the denoiser x the model's factor, in units; above 0.

    `size` is the longest side in pixels. Twice the work must cost twice as much; the unit need not
    be a time.
    """
    forwards = max(1, steps * profile.passes) / UNIT_FORWARDS
    pixels = (size / UNIT_SIZE_PX) ** 2
    return frames / UNIT_FRAMES * pixels * forwards * profile.cost_factor
