"""The phrases that name motions: some for training, others held out for measuring.

No phrase is in both. Words may be: the held-out phrases combine them in new ways, and use some new
forms ("swayed", "leftward", "pulsates") of words in the training phrases.
"""

from itertools import product


def forms(*verbs: str) -> list[str]:
    """ "sway in the wind" -> that, "sways in the wind", "swaying in the wind"."""
    found = []
    for verb in verbs:
        first, _, rest = verb.partition(" ")
        found += [f"{form} {rest}".strip() for form in (first, _third(first), _gerund(first))]
    return found


def _third(verb: str) -> str:
    if verb.endswith(("sh", "ch", "s", "x", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


def _gerund(verb: str) -> str:
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    short = (
        len(verb) <= 4 and verb[-1] in "bpnmt" and verb[-2] in "aiou" and verb[-3] not in "aeiou"
    )
    return verb + verb[-1] + "ing" if short else verb + "ing"


def _to(verbs: list[str], ways: list[str]) -> list[str]:
    return [f"{verb} {way}" for verb, way in product(verbs, ways)]


_PAN = [
    *forms("pan", "slide", "glide"),
    *("look", "camera moves", "the camera moves", "the camera pans", "camera glides", "track"),
    *("the shot pans", "camera is panning", "the camera slides"),
]
_TILT = [
    *forms("tilt"),
    "the camera tilts",
    "camera moves",
    "the camera moves",
    "look",
    "pan",
    "crane",
]
_ROLL = [
    *forms("rotate", "roll"),
    *("picture turns", "the camera rolls", "camera rotates", "the picture rotates", "tumble"),
]
_LEFT = ["left", "to the left", "leftwards", "towards the left"]
_RIGHT = ["right", "to the right", "rightwards", "towards the right"]
_UP, _DOWN = ["up", "upwards", "upward"], ["down", "downwards", "downward"]

CAMERA = {
    "still": [],
    "pan left": [*_to(_PAN, _LEFT), "left pan", "pan shot to the left"],
    "pan right": [*_to(_PAN, _RIGHT), "right pan", "pan shot to the right"],
    "tilt up": [*_to(_TILT, _UP), "camera rises", "the camera is rising", "rising camera"],
    "tilt down": [*_to(_TILT, _DOWN), "camera sinks", "the camera is sinking", "sinking camera"],
    "zoom in": [
        *forms(
            "zoom in", "push in", "dolly in", "move closer", "get closer", "zoom", "come nearer"
        ),
        *("camera zooms in", "camera pushes in", "the camera zooms in", "the camera moves in"),
        *("zoom into the picture", "a zoom in", "zooms in on it", "the camera approaches"),
        *("camera goes closer", "moving in closer"),
    ],
    "zoom out": [
        *forms("zoom out", "pull out", "pull back", "dolly out", "move away", "step back"),
        *("camera zooms out", "camera pulls back", "the camera zooms out", "the camera moves out"),
        *("zoom out of the picture", "a zoom out", "pulls back from it", "the camera backs away"),
        *("camera goes further away", "moving back further"),
    ],
    "rotate left": [
        *_to(_ROLL, ["left", "to the left", "counterclockwise", "anticlockwise"]),
        *("counterclockwise rotation", "counterclockwise turn", "anticlockwise rotation"),
        "rotation to the left",
    ],
    "rotate right": [
        *_to(_ROLL, ["right", "to the right", "clockwise"]),
        *("clockwise rotation", "clockwise turn", "rotation to the right"),
    ],
    "handheld": [
        *("handheld", "handheld camera", "hand held camera", "camera shake", "shaky camera"),
        *("floating camera", "unsteady camera", "wobbly camera", "the camera shakes", "shaky"),
        *(
            "handheld video",
            "shaking camera",
            "the camera wobbles",
            "a shaky picture",
            "held by hand",
        ),
        *("camera trembles", "unsteady handheld footage", "shaky hands"),
    ],
}
OBJECT = {
    "still": [],
    "sway": [
        *forms("sway", "sway in the wind", "sway in the breeze", "wave in the wind", "flutter"),
        *forms("swing", "rustle", "bend in the wind", "blow in the wind", "rock from side to side"),
        *("breeze", "wind blows", "a breeze blows", "rustling leaves", "leaves rustle", "windy"),
        *("moved by the wind", "wind in the trees", "the wind moves it", "sway from side to side"),
    ],
    "bob": [
        *forms("bob", "bob up and down", "bounce", "jump", "hop", "hover", "float up and down"),
        *forms("move up and down", "bounce up and down", "jump up and down", "leap"),
        *("goes up and down", "rises and falls", "rising and falling"),
    ],
    "ripple": [
        *forms("ripple", "shimmer", "undulate", "ripple across the surface", "flow"),
        *("rippling water", "waves", "rolling waves", "water ripples", "wavy", "flowing water"),
        *("the sea", "ocean waves", "the water moves", "small waves", "water flows", "wavy water"),
        *(
            "waves roll in",
            "waves run over the water",
            "ripples run over it",
            "the surface ripples",
        ),
    ],
    "spin": [
        *forms("spin", "spin around", "spin around itself", "twirl", "whirl", "revolve", "gyrate"),
        *forms("turn around", "turn around itself", "rotate around itself", "pirouette"),
        *("spins like a wheel", "goes round and round", "turns round and round"),
    ],
    "pulse": [
        *forms("pulse", "breathe", "throb", "swell", "expand", "grow and shrink", "puff up"),
        *("heart beat", "beats like a heart", "breathes in and out", "breathing in and out"),
        *("swells and shrinks", "grows bigger and smaller", "expands and contracts", "inflates"),
    ],
    "drift left": _to(
        [*forms("drift", "float", "fly", "walk", "sail", "travel"), "goes", "runs", "swims"], _LEFT
    ),
    "drift right": _to(
        [*forms("drift", "float", "fly", "walk", "sail", "travel"), "goes", "runs", "swims"], _RIGHT
    ),
}
STRENGTH = {
    "gentle": [
        *("gentle", "gently", "slow", "slowly", "slightly", "subtle", "soft", "softly"),
        *("light", "calm", "a little"),
    ],
    "normal": [],
    "strong": [
        *("strong", "strongly", "fast", "quickly", "wildly", "dramatic", "violent", "heavy"),
        *("powerful", "very much"),
    ],
}
NOTHING = ["still", "static", "no motion", "nothing moves", "completely still", "frozen"]
# Gentle motion for a prompt that asks for nothing in particular.
AMBIENT = ["ambient motion", "subtle living motion", "bring it to life", "animate this", "alive"]

# Never trained on: other word orders, longer phrases, forms that share only their stems.
HELD_OUT_CAMERA = {
    "pan left": ["slow leftward pan", "the view pans over to the left"],
    "pan right": ["rightward pan", "the view pans over to the right"],
    "tilt up": ["camera tilting up", "upward tilt"],
    "tilt down": ["camera tilting down", "downward tilt"],
    "zoom in": ["slow push-in", "the camera is zooming in closer"],
    "zoom out": ["slow pull-back", "the camera is zooming out further"],
    "rotate left": ["counterclockwise roll", "the view turned over to the left"],
    "rotate right": ["clockwise roll", "the view turned over to the right"],
    "handheld": ["a shaky handheld shot", "hand-held camera shaking"],
}
HELD_OUT_OBJECT = {
    "sway": ["leaves flutter in the wind", "grass swayed by a breeze"],
    "bob": ["a boat bobs gently", "it is hopping up and down"],
    "ripple": ["waves on the water", "the lake is rippling"],
    "spin": ["it twirls and spins", "a spinning top"],
    "pulse": ["it pulsates", "the chest breathes slowly"],
    "drift left": ["clouds drift to the left", "it floated off to the left"],
    "drift right": ["clouds drift to the right", "it floated off to the right"],
}
SUBJECTS = [
    *("the flower", "a red boat", "the tree", "my dog", "the old house", "a woman", "the man"),
    *("a child", "the clouds", "the car", "a mountain", "the lake", "the river", "a bird"),
    *("the cat", "the bridge", "a lantern", "the moon", "the temple", "a bottle", "the statue"),
    *("a balloon", "the field", "the forest", "a street", "the city", "her hair", "the dress"),
    *("a horse", "the ship", "the fence", "the roof", "a candle", "the lamp", "a rose"),
    *("the garden", "an apple"),
]
FILLERS = [
    *("cinematic", "beautiful", "high quality", "in the evening", "at sunset", "photo"),
    *("portrait", "4k", "blue", "golden hour", "please", "make it", "realistic"),
    *("in the background", "landscape", "vintage", "colorful"),
]
LETTERS = "aaabcdeeefghiiklmnooprstuvwyz"
