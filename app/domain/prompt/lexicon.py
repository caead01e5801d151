"""The words of the motion grammar: every form of a word leads to one entry.

An entry is a plain string, such as "zoom" for "zooms" and "zooming". Words that are not here have
no meaning to the grammar.
"""


def _forms(verb: str) -> list[str]:
    """A regular verb's forms: "pan" -> pan, pans, panning, panned."""
    if verb.endswith("e"):
        return [verb, f"{verb}s", f"{verb[:-1]}ing", f"{verb}d"]
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return [verb, f"{verb[:-1]}ies", f"{verb}ing", f"{verb[:-1]}ied"]
    third = f"{verb}es" if verb.endswith(("sh", "ch", "s", "x", "o")) else f"{verb}s"
    short = len(verb) <= 4 and verb[-1] in "bpnmt" and verb[-2] in "aiou"
    if short and verb[-3:-2] not in "aeiou":
        return [verb, third, f"{verb}{verb[-1]}ing", f"{verb}{verb[-1]}ed"]
    return [verb, third, f"{verb}ing", f"{verb}ed"]


# Verbs that mean the same: entry -> verbs, and after "/" forms that no rule gives.
_VERBS = {
    "zoom": "zoom",
    "pan": "pan truck / tracking panning",
    "glide": "glide slide / slid",
    "look": "look",
    "track": "track",
    "tilt": "tilt",
    "crane": "crane",
    "rotate": "rotate / rotation rotations",
    "roll": "roll tumble",
    "turn": "turn / turns",
    "push": "push",
    "pull": "pull",
    "dolly": "dolly",
    "move": "move come get step / motion motions movement movements came got",
    "go": "go / went gone",
    "retreat": "retreat / backs backing backed",
    "approach": "approach",
    "rise": "rise ascend / rose risen",
    "sink": "sink descend / sank sunk",
    "fall": "fall / fell fallen",
    "shake": "shake wobble tremble jitter / shaky wobbly jittery unsteady shook shaken",
    "sway": "sway flutter rustle swing / swung",
    "wave": "wave / wavy",
    "bend": "bend / bent",
    "blow": "blow / blew blown",
    "rock": "rock",
    "bob": "bob bounce hop hover jump leap / leapt",
    "float": "float",
    "ripple": "ripple shimmer undulate flow",
    "spin": "spin twirl whirl revolve gyrate pirouette / spun",
    "pulse": "pulse pulsate breathe throb swell expand inflate / swollen heartbeat heartbeats",
    "contract": "contract",
    "grow": "grow / grew grown",
    "shrink": "shrink / shrank shrunk",
    "beat": "beat",
    "puff": "puff",
    "drift": "drift",
    "fly": "fly walk sail travel run swim / flew flown ran swam traveling traveled",
    "freeze": "freeze / froze",
    "stop": "stop avoid",
}
# Other words: entry -> all its forms.
_WORDS = {
    "left": "left leftward leftwards",
    "right": "right rightward rightwards",
    "up": "up upward upwards",
    "down": "down downward downwards",
    "in": "in into inward inwards",
    "out": "out outward outwards",
    "back": "back backward backwards",
    "away": "away further farther",
    "closer": "closer nearer",
    "clockwise": "clockwise",
    "anticlockwise": "anticlockwise counterclockwise",
    "around": "around round",
    "camera": "camera cameras shot shots view picture image frame footage lens video pov",
    "handheld": "handheld",
    "wind": "wind winds windy breeze breezes breezy",
    "water": "water lake river surface",
    "sea": "sea ocean",
    "flag": "flag flags",
    "nothing": "nothing",
    "still": "still static frozen motionless stationary fixed locked tripod",
    "ambient": "ambient alive",
    "not": "no not without never dont doesnt didnt isnt arent wont shouldnt cant cannot mustnt",
    "nor": "nor neither",
    "or": "or",
    "and": "and",
    "but": "but while then yet just only instead",
    "gentle": "gentle gently slow slowly slightly subtle subtly soft softly light lightly calm"
    " calmly mild mildly",
    "strong": "strong strongly fast quick quickly wild wildly dramatic dramatically violent"
    " violently heavy heavily powerful powerfully rapid rapidly hard",
}
# Several entries or words in a row -> one entry; "" for none.
_IDIOMS = {
    "up and down": "up-down",
    "in and out": "in-out",
    "side to side": "side-to-side",
    "back and forth": "side-to-side",
    "to and fro": "side-to-side",
    "rise and fall": "bob",
    "fall and rise": "bob",
    "around and around": "spin",
    "grow and shrink": "pulse",
    "pulse and shrink": "pulse",
    "pulse and contract": "pulse",
    "grow bigger and smaller": "pulse",
    "heart beat": "pulse",
    "beat like a heart": "pulse",
    "puff up": "pulse",
    "hand held": "handheld",
    "held by hand": "handheld",
    "counter clockwise": "anticlockwise",
    "anti clockwise": "anticlockwise",
    "around itself": "around",
    "a little": "gentle",
    "a bit": "gentle",
    "very much": "strong",
    "a lot": "strong",
    "ambient move": "ambient",
    "gentle living move": "ambient",
    "bring it to life": "ambient",
    "bring this to life": "ambient",
    "move to life": "ambient",
    "animate this": "ambient",
    "animate it": "ambient",
    "nothing move": "still",
    "do not": "not",
    "does not": "not",
    "not but": "but",  # "not only", "not just"
    "still life": "",
    "stop motion": "",  # a technique
}


def _entries() -> dict[str, str]:
    found = {}
    for entry, words in _VERBS.items():
        regular, _, irregular = words.partition("/")
        for form in [form for verb in regular.split() for form in _forms(verb)]:
            found[form] = entry
        found |= dict.fromkeys(irregular.split(), entry)
    for entry, forms in _WORDS.items():
        found |= dict.fromkeys(forms.split(), entry)
    return found


ENTRIES = _entries()
IDIOMS = {tuple(idiom.split()): entry for idiom, entry in _IDIOMS.items()}
LONGEST_IDIOM = max(map(len, IDIOMS))

# Words that carry no meaning of their own. They are never listed as ignored.
_FUNCTION_WORDS = """
    a an the of it its itself is are was be been being this that these those i my your his
    her their our me you he she they we us with to from on at by for as into onto over off
    through across towards toward under above behind like so very really quite some any
    there here do does did will would should could can has have had make makes let lets
    please stay stays keep keeps remain remains hold holds completely entirely much in out
    up down back and or nor but while then yet just only instead
"""
# Words that describe the clip, not a thing in it.
_STYLE_WORDS = """
    cinematic beautiful smooth smoothly epic realistic vintage please high quality 4k 8k hd
    animate animated animation loop looping seamless nice big small tiny huge
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
STYLE_WORDS = frozenset(_STYLE_WORDS.split())
