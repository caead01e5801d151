"""What people ask for that no motion model makes, and how to tell them.

A model moves what the picture shows. It knows no faces or limbs, and nothing can come into view.
"""

from collections.abc import Sequence
from enum import StrEnum


class Wish(StrEnum):
    BLINK = "blink"
    SMILE = "smile"
    TALK = "talk"
    LOOK = "look"
    TURN = "turn"
    GESTURE = "gesture"
    WALK = "walk"
    TRAVEL = "travel"
    FALL = "fall"
    SNOW = "snow"
    RAIN = "rain"
    LIGHT = "light"
    CHANGE = "change"
    APPEAR = "appear"
    BURST = "burst"
    FOLLOW = "follow"
    FOCUS = "focus"
    TIMELAPSE = "timelapse"


# Each goes on after "This model cannot make".
_PHRASES = {
    Wish.BLINK: "faces blink",
    Wish.SMILE: "faces smile or cry",
    Wish.TALK: "mouths move",
    Wish.LOOK: "heads or eyes turn",
    Wish.TURN: "things turn to another side",
    Wish.GESTURE: "arms or legs move",
    Wish.WALK: "anyone walk or dance",
    Wish.TRAVEL: "things come nearer or leave",
    Wish.FALL: "things fall",
    Wish.SNOW: "snow fall",
    Wish.RAIN: "rain fall",
    Wish.LIGHT: "light or colours change",
    Wish.CHANGE: "things grow, open or become others",
    Wish.APPEAR: "things appear or vanish",
    Wish.BURST: "things break or explode",
    Wish.FOLLOW: "the camera follow anything",
    Wish.FOCUS: "the focus change",
    Wish.TIMELAPSE: "time pass faster",
}
# Entries of the lexicon that always mean a wish.
OF_ENTRY = {
    "blink": Wish.BLINK,
    "smile": Wish.SMILE,
    "talk": Wish.TALK,
    "nod": Wish.LOOK,
    "gesture": Wish.GESTURE,
    "dance": Wish.WALK,
    "snowfall": Wish.SNOW,
    "rainfall": Wish.RAIN,
    "flicker": Wish.LIGHT,
    "glow": Wish.LIGHT,
    "change": Wish.CHANGE,
    "appear": Wish.APPEAR,
    "burst": Wish.BURST,
    "follow": Wish.FOLLOW,
    "timelapse": Wish.TIMELAPSE,
    "refocus": Wish.FOCUS,
}


def hint(unsupported: Sequence[Wish]) -> str | None:
    """A sentence for people: what the model cannot do. None if there is nothing."""
    if not unsupported:
        return None
    *first, last = [_PHRASES[wish] for wish in unsupported]
    return f"This model cannot make {', '.join(first) + ' or ' if first else ''}{last}."
