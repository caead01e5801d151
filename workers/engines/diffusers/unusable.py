"""Why a model is not served: one sentence for the platform engineer."""

from app.domain.errors import Permanent


class Unusable(Permanent):
    """The checkpoint, or what its profile says about it, would give wrong clips or none.

    Raised while loading, so that no job meets it.
    """

    code = "checkpoint_unusable"


def shorten(names: list[str], most: int = 3) -> str:
    """A few of the names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
