"""What a job costs, in units: the work of one default clip of the default profile is 1."""

from app.domain.job.profiles import Profile

# The default clip when the unit was fixed. Another default profile must not change the unit: fair
# shares and usage records count in it.
UNIT_FRAMES = 48
UNIT_SIZE_PX = 512
UNIT_FORWARDS = 4


def cost_units(profile: Profile, *, frames: int, size: int, steps: int) -> float:
    """Frames x pixels x forwards of the denoiser, relative to the unit; above 0.

    `size` is the longest side in pixels. A job of twice the work must count twice; the figure need
    not be seconds.
    """
    forwards = max(1, steps * profile.passes) / UNIT_FORWARDS
    pixels = (size / UNIT_SIZE_PX) ** 2
    return frames / UNIT_FRAMES * pixels * forwards
