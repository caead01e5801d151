"""English. Its entries are what the words of the other languages lead to."""

from app.domain.prompt.languages.table import Table, build


def _forms(verb: str) -> list[str]:
    """A regular verb's forms: "pan" -> pan, pans, panning, panned."""
    if verb.endswith("e"):
        return [verb, f"{verb}s", f"{verb[:-1]}ing", f"{verb}d"]
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return [verb, f"{verb[:-1]}ies", f"{verb}ing", f"{verb[:-1]}ied"]
    third = f"{verb}es" if verb.endswith(("sh", "ch", "s", "x", "o")) else f"{verb}s"
    short = len(verb) <= 4 and verb[-1] in "bpnmtg" and verb[-2] in "aiou"
    if short and verb[-3:-2] not in "aeiou":
        return [verb, third, f"{verb}{verb[-1]}ing", f"{verb}{verb[-1]}ed"]
    return [verb, third, f"{verb}ing", f"{verb}ed"]


# Verbs that mean the same: entry -> verbs, and after "/" forms that no rule gives.
_VERBS = {
    "zoom": "zoom",
    "pan": "pan / tracking panning",
    "glide": "glide slide / slid",
    "look": "look",
    "track": "track truck",
    "tilt": "tilt",
    "crane": "crane boom pedestal jib",
    "orbit": "orbit circle arc encircle",
    "rotate": "rotate / rotation rotations",
    "roll": "roll tumble",
    "turn": "turn / turns",
    "push": "push dive",
    "pull": "pull",
    "dolly": "dolly",
    "move": "move come get step / motion motions movement movements came got",
    "go": "go / went gone",
    "retreat": "retreat / backs backing backed",
    "approach": "approach",
    "rise": "rise ascend raise lift / rose risen",
    "sink": "sink descend lower / sank sunk",
    "fall": "fall / fell fallen",
    "shake": "shake wobble tremble jitter / shaky wobbly jittery unsteady shook shaken",
    "sway": "sway flutter rustle swing billow flap waft ruffle quiver / swung",
    "swirl": "swirl curl",
    "wave": "wave / wavy",
    "bend": "bend / bent",
    "blow": "blow / blew blown",
    "rock": "rock",
    "bob": "bob bounce hop hover jump leap / leapt",
    "float": "float",
    "ripple": "ripple shimmer undulate flow lap",
    "crash": "crash splash break surge churn cascade pour / broke",
    "spin": "spin twirl whirl revolve gyrate pirouette / spun",
    "pulse": "pulse pulsate breathe throb swell expand inflate / swollen heartbeat heartbeats",
    "contract": "contract",
    "grow": "grow / grew grown",
    "shrink": "shrink / shrank shrunk",
    "beat": "beat",
    "puff": "puff",
    "drift": "drift",
    "walk": "walk run stroll march / ran",
    "fly": "fly travel swim drive launch / flew flown swam drove traveling traveled",
    "sail": "sail",
    "freeze": "freeze / froze",
    "stop": "stop avoid",
    "reveal": "reveal",
    # What no model makes: see wishes.py.
    "blink": "blink wink",
    "smile": "smile laugh grin frown cry giggle smirk / laughter",
    "talk": "talk speak sing whisper shout yell chat / spoke sang lipsync",
    "nod": "nod glance gaze stare / gazes",
    "gesture": "clap hug kiss salute point gesture reach grab wag swish",
    "dance": "dance",
    "flicker": "flicker / lightning",
    "burn": "burn / burnt",
    "glow": "glow sparkle twinkle glitter flash shine / shone",
    "burst": "explode shatter burst collapse erupt crumble",
    "change": "transform morph bloom blossom melt change evolve",
    "appear": "appear disappear vanish emerge materialize materialise dissolve",
    "open": "open close",
    "follow": "follow chase",
}
# Other words: entry -> all its forms.
_WORDS = {
    "left": "left leftward leftwards",
    "right": "right rightward rightwards",
    "up": "up upward upwards",
    "down": "down downward downwards",
    "in": "in into inward inwards",
    "out": "out outward outwards",
    "forward": "forward forwards ahead",
    "back": "back backward backwards",
    "away": "away further farther",
    "closer": "closer nearer",
    "clockwise": "clockwise",
    "anticlockwise": "anticlockwise counterclockwise",
    "around": "around round 360",
    "camera": "camera cameras shot shots view picture image frame footage lens video pov drone cam",
    "handheld": "handheld",
    "parallax": "parallax",
    "nothing": "nothing",
    "everything": "everything",
    "still": "still static frozen motionless stationary fixed locked immobile unmoving",
    "still camera": "tripod",
    "ambient": "ambient alive",
    "not": "no not without never dont doesnt didnt isnt arent wont shouldnt cant cannot mustnt",
    "nor": "nor neither",
    "or": "or",
    "and": "and",
    "but": "but while then yet instead",
    "only": "only just solely exclusively except",
    "gentle": "gentle gently slow slowly slightly subtle subtly soft softly light lightly calm"
    " calmly mild mildly slight delicate delicately faint faintly gradual gradually lazy lazily"
    " leisurely minimal barely peaceful peacefully",
    "strong": "strong strongly fast quick quickly wild wildly dramatic dramatically violent"
    " violently heavy heavily powerful powerfully rapid rapidly hard intense intensely swift"
    " swiftly sudden suddenly aggressive aggressively vigorous vigorously energetic furious"
    " furiously",
    # Things that tell what moves, or how.
    "wind": "wind winds windy breeze breezes breezy gust gusts",
    "water": "water lake river surface pond stream creek brook waterfall waterfalls pool puddle"
    " fountain lava",
    "sea": "sea ocean surf tide seas oceans",
    "hair": "hair beard mane fur ponytail braid braids feather feathers hairs",
    "cloth": "dress skirt cape cloak scarf veil robe clothes clothing fabric ribbon ribbons coat"
    " shirt kimono",
    "flag": "flag flags banner banners",
    "smoke": "smoke steam fog mist haze vapor vapour dust sand",
    "foliage": "leaf leaves foliage tree trees grass plant plants branch branches bush bushes"
    " palm palms reeds wheat curtain curtains",
    "clouds": "cloud clouds sky",
    "fire": "fire flame flames candle candles torch campfire",
    "snow": "snow snowflake snowflakes",
    "rain": "rain raindrops raindrop",
    "snowfall": "snows snowing snowed snowfall",
    "rainfall": "rains raining rained rainfall",
    "head": "head heads face faces eye eyes eyelid eyelids eyebrow eyebrows",
    "limb": "hand hands arm arms finger fingers leg legs wing wings tail",
    "mouth": "mouth lips lip jaw",
    "person": "he she they person people woman women man men girl girls boy boys child children"
    " lady guy dancer model kid kids baby couple",
    "background": "background backdrop surroundings scenery backgrounds",
    "subject": "subject foreground subjects protagonist",
    "thing": "boat boats ship car cars train dog cat bird birds horse flower flowers rose balloon"
    " lantern statue bottle house bridge lamp helmet kite toy chair moon sun dragon lights colors"
    " colours",
    "timelapse": "timelapse hyperlapse",
    "refocus": "refocus",
}
# Several entries or words in a row -> entries; "" for none.
_IDIOMS = {
    "up and down": "up-down",
    "in and out": "in-out",
    "side to side": "side-to-side",
    "back and forth": "side-to-side",
    "to and fro": "side-to-side",
    "left and right": "side-to-side",
    "left to right": "right",
    "right to left": "left",
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
    "shaky cam": "handheld",
    "counter clockwise": "anticlockwise",
    "anti clockwise": "anticlockwise",
    "around itself": "around",
    "a little": "gentle",
    "a bit": "gentle",
    "slow motion": "gentle",
    "slow mo": "gentle",
    "let her wave": "gesture",
    "let him wave": "gesture",
    "very much": "strong",
    "a lot": "strong",
    "not too strong": "gentle",
    "not so strong": "gentle",
    "not very strong": "gentle",
    "ambient move": "ambient",
    "gentle living move": "ambient",
    "bring it to life": "ambient",
    "bring this to life": "ambient",
    "move to life": "ambient",
    "animate this": "ambient",
    "animate it": "ambient",
    "nothing move": "still",
    "nothing move but": "still only",
    "in place": "still",
    "locked off": "still camera",
    "do not": "not",
    "does not": "not",
    "did not": "not",
    "not only": "but",
    "the only": "",
    "still life": "",
    "stop motion": "",  # a technique
    "look at": "nod",
    "look into": "nod",
    "looking at": "",  # it describes a portrait
    "looking into": "",
    "frying pan": "",
    "sauce pan": "",
    "deep focus": "",
    "in focus": "",
    "bread roll": "",
    "soft light": "",
    "push through": "push in",
    "push toward": "push in",
    "push towards": "push in",
    "push past": "push in",
    "push to": "push in",
    "push forward": "push in",
    "fly through": "fly forward",
    "fly over": "fly forward",
    "move through": "move forward",
    "glide through": "glide forward",
    "move past": "move forward",
    "walk through": "walk forward",
    "run through": "walk forward",
    "crash zoom": "strong zoom",
    "snap zoom": "strong zoom",
    "whip pan": "strong pan",
    "swish pan": "strong pan",
    "dolly zoom": "zoom in",
    "dolly shot": "dolly camera",
    "vertigo effect": "zoom in",
    "ken burns": "ken-burns",
    "ken burns effect": "ken-burns",
    "arc shot": "orbit camera",
    "circle shot": "orbit camera",
    "tracking shot": "pan camera",
    "follow shot": "follow",
    "time lapse": "timelapse",
    "toward camera": "at-camera",
    "towards camera": "at-camera",
    "toward the camera": "at-camera",
    "towards the camera": "at-camera",
    "at camera": "at-camera",
    "at the camera": "at-camera",
    "to camera": "at-camera",
    "to the camera": "at-camera",
    "into the camera": "at-camera",
    "for the camera": "at-camera",
    "wave goodbye": "gesture",
    "wave hello": "gesture",
    "shake hands": "gesture",
    "let it snow": "snowfall",
    "day to night": "timelapse",
    "night to day": "timelapse",
    "rack focus": "refocus",
    "focus pull": "refocus",
    "pull focus": "refocus",
    "focus shift": "refocus",
    "everything else": "thing",
    "in front": "subject",
    "in the front": "subject",
    "up front": "subject",
    "in front of": "",
    "behind it": "background",
    "behind him": "background",
    "behind her": "background",
    "behind them": "background",
    "in the back": "background",
    "in the distance": "background",
    "far behind": "background",
    "depth of field": "",
    "dutch angle": "rotate right",
    "dutch tilt": "rotate right",
}
# Words that carry no meaning of their own. They are never listed as ignored.
_FUNCTION_WORDS = """
    a an the of it its itself is are was be been being this that these those i my your his
    her their our me you he she they we us with to from on at by for as into onto over off
    through across towards toward under above behind like so very really quite some any
    there here do does did will would should could can has have had make makes let lets
    please stay stays keep keeps remain remains hold holds completely entirely much in out
    up down back and or nor but while then yet just only instead against between along
    degree degrees extremely too start starts begin begins causing making whole all other others
    rest
"""
# Words that describe the clip, not a thing in it.
_STYLE_WORDS = """
    cinematic beautiful smooth smoothly epic realistic vintage please high quality 4k 8k hd
    animate animated animation loop looping seamless nice big small tiny huge steady natural
    sunlight focus bokeh blur
    naturally realistically elegant graceful gracefully aerial effect style scene majestic
    old young red blue green golden white black natural looped steadicam gimbal
"""
# English words that also are words of another language: "die Kamera", "son visage", "links".
_FALSE_FRIENDS = """
    die den war hat hell links fast rock kind art gift brand wand stern fall rot son air vent main
    pour sale come mar sol vague vagues fort lent rein gauche cape tour fond sans also man her was
    boot bras corps lit mare fume pose sin con van para am an as do os so tete plan balance gusto
    film note
"""
FALSE_FRIENDS = frozenset(_FALSE_FRIENDS.split())

ENGLISH: Table = build(
    {
        **{
            entry: " ".join(f"{verb}-" for verb in words.partition("/")[0].split())
            + " "
            + words.partition("/")[2]
            for entry, words in _VERBS.items()
        },
        **_WORDS,
    },
    _IDIOMS,
    _FUNCTION_WORDS,
    _STYLE_WORDS,
    forms=lambda verb, _: _forms(verb),
)
