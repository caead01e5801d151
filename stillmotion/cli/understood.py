"""What the model makes of a prompt, as one line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillmotion.models import PromptUnderstood

IGNORED = 8  # words shown; a story has hundreds


def line_of(found: "PromptUnderstood") -> str:
    """For example "sway of the subject, pan left, gentle; ignored: helmet"."""
    if found.ambient and found.ignored and not (found.excluded or found.unsupported):
        return "no motion words known: ambient"
    motion = "ambient" if found.ambient else _named(found)
    if not found.ignored:
        return motion
    more = ", ..." if len(found.ignored) > IGNORED else ""
    return f"{motion}; ignored: {', '.join(found.ignored[:IGNORED])}{more}"


def _named(found: "PromptUnderstood") -> str:
    thing = f"{found.object} of the {found.target}" if found.target else found.object
    moving = [motion for motion in (thing, found.camera) if motion not in (None, "still")]
    if not moving:
        return "still"
    strength = [] if found.strength in (None, "normal") else [found.strength]
    return ", ".join(str(each) for each in moving + strength)
