"""German. Umlauts may be written as "ae"; compounds, as in "Kameraschwenk", are cut in two."""

from app.domain.prompt.languages.table import Table, build, spellings


def _forms(stem: str, ending: str) -> list[str]:
    """Of a regular verb. "schwenk-en" -> schwenken, schwenkt, schwenkend, geschwenkt, ..."""
    t = "et" if stem.endswith(("t", "d", "gn", "chn", "ffn")) else "t"
    found = [f"{stem}{each}" for each in ("e", "st", t, f"{t}e", f"{t}en", "end")]
    found += [f"{stem}end{each}" for each in ("e", "er", "es", "en")]
    return [*found, stem + ending, f"ge{stem}{t}", f"zu{stem}{ending}"]


def _adjectives(*stems: str) -> str:
    return " ".join(f"{stem}{end}" for stem in stems for end in ("", "e", "er", "es", "en", "em"))


_WORDS = {
    # How, and which way.
    "left": "links linke linken linker",
    "right": "rechts rechte rechten rechter",
    "up": "oben hoch hinauf herauf rauf aufwärts empor",
    "down": "unten runter hinunter herunter abwärts hinab herab",
    "in": "rein hinein herein ran heran hinzu",
    "out": "raus heraus hinaus",
    "forward": "vorne vorn vorwärts voran",
    "back": "zurück hinten rückwärts",
    "closer": "näher nah",
    "away": "weg fort entfernt weiter",
    "around": "herum rundherum umher rum",
    "clockwise": "uhrzeigersinn",
    "anticlockwise": "gegenuhrzeigersinn",
    "camera": "kamera kameras bild aufnahme einstellung ansicht bildausschnitt drohne objektiv",
    "not": "kein keine keinen keiner keinerlei keines ohne nie niemals",
    "not-clause": "nicht",
    "nor": "noch weder",
    "or": "oder",
    "and": "und",
    "but": "aber sondern während dann danach dabei jedoch",
    "only": "außer nur lediglich bloß ausschließlich allein",
    "stop": "vermeide vermeiden stoppe stopp",
    "nothing": "nichts",
    "everything": "alles",
    "gentle": f"{_adjectives('sanft', 'langsam', 'leicht', 'leis', 'ruhig', 'zart', 'schwach')}"
    " behutsam dezent gemächlich wenig subtil subtile gemütlich bisschen leise zeitlupe",
    "strong": f"{_adjectives('stark', 'schnell', 'heftig', 'wild', 'kräftig', 'rasch')}"
    f" {_adjectives('dramatisch', 'intensiv', 'ruckartig', 'stürmisch', 'gewaltig')} sehr",
    # Camera.
    "zoom": "zoom-en zoome",
    "pan": "schwenk-en schwenk schwenks",
    "track": "pan",
    "tilt": "neig-en neigung kipp-en",
    "crane": "kran",
    "orbit": "umkreis-en kreis-en umrund-en umfahr-en umfährt orbit kreisfahrt",
    "rotate": "dreh-en drehung drehungen rotier-en rotiert rotation",
    "roll": "roll-en",
    "move": "beweg-en bewegung bewegungen",
    "go": "fahr-en fährt fahrt fahrend geh-en gleit-en",
    "retreat": "entfern-en zurückweich-en",
    "approach": "nähern nähert nähere annähern annäherung annähert",
    "rise": "steig-en steigt heb-en",
    "sink": "sink-en senk-en",
    "shake": "wackel-n wackelt wackle wackelig wackelige wackeln gewackel zitter-n zittert"
    " verwackelt verwackelte ruckel-n ruckelt beb-en rüttelt",
    "still": "statisch statische statischer starr starre unbewegt unbeweglich reglos regungslos"
    " eingefroren stillsteh-en stillstehen stillsteht stillstand fest feste fixiert standbild"
    " still stehende stativ unbewegte",
    "reveal": "enthüll-en enthüllung",
    "parallax": "parallaxe",
    # Things that move.
    "sway": "wieg-en schwank-en schaukel-n schaukelt schaukelnd flatter-n flattert flatternd"
    " flatternde rascheln raschelt",
    "swirl": "wirbel-n wirbelt wirbelnd wirbelnde",
    "blow": "weh-en pust-en blas-en bläst",
    "bend": "bieg-en",
    "bob": "hüpf-en spring-en springt wipp-en",
    "float": "schweb-en treib-en",
    "ripple": "kräusel-n kräuselt kräuseln wogen wogt fließ-en strömen strömt plätschern"
    " plätschert schimmer-n schimmert rieseln rieselt",
    "wave": "welle wellen wellig brandung",
    "crash": "brech-en brechen bricht spritzt spritzen schwappen schwappt schlagen",
    "spin": "kreisel-n kreiselt kreisel",
    "pulse": "pulsier-en pulsiert pulsieren atm-en atmet puls pocht pochen pochend herzschlag",
    "grow": "wachs-en wächst",
    "drift": "drift-en zieh-en zieht ziehen",
    "walk": "lauf-en läuft geht spazier-en renn-en",
    "fly": "flieg-en schwimm-en reis-en flug",
    "sail": "segel-n segelt",
    "fall": "fall-en fällt rieselt",
    "turn": "umdreh-en wend-en",
    # What moves.
    "wind": "wind winde böe böen brise",
    "water": "wasser see fluss bach teich oberfläche wasserfall brunnen wasseroberfläche",
    "sea": "meer ozean flut",
    "hair": "haar haare haaren bart mähne fell",
    "cloth": "kleid rock umhang schal schleier kleider kleidung stoff mantel tuch",
    "flag": "flagge flaggen fahne fahnen banner",
    "smoke": "rauch dampf nebel dunst qualm",
    "foliage": "blatt blätter laub baum bäume bäumen gras gräser pflanze pflanzen ast äste zweige"
    " palme palmen getreide vorhang vorhänge",
    "clouds": "wolke wolken himmel",
    "fire": "feuer flamme flammen kerze kerzen fackel",
    "snow": "schnee schneeflocken flocken",
    "rain": "regen",
    "head": "kopf gesicht augen auge blick lider",
    "limb": "hand hände arme bein beine finger flügel schwanz",
    "mouth": "mund lippen",
    "person": "person personen menschen mensch frau frauen mann männer mädchen junge kind kinder"
    " er sie",
    "background": "hintergrund umgebung kulisse hintergrundes dahinter",
    "subject": "vordergrund motiv subjekt hauptmotiv",
    "thing": "boot boote schiff auto hund katze vogel vögel pferd blume blumen rose ballon"
    " laterne haus brücke helm drachen statue sonne mond lichter",
    # What no model makes.
    "blink": "blinzel-n blinzelt blinzeln zwinker-n zwinkert",
    "smile": "lächel-n lächelt lächle lächeln lach-en wein-en grins-en",
    "talk": "sprech-en spricht red-en sing-en",
    "nod": "nick-en schau-en guck-en blick-en",
    "gesture": "wedel-n wedelt wedeln wink-en klatsch-en umarm-en küss-en",
    "dance": "tanz-en",
    "flicker": "flacker-n flackert flackern flackernd blink-en",
    "glow": "leucht-en funkel-n funkelt glitzer-n glitzert glitzern strahl-en blitz-en",
    "burn": "brenn-en",
    "burst": "explodier-en explodiert zerbrech-en zerbricht platz-en",
    "change": "verwandel-n verwandelt verändert blüh-en schmelz-en schmilzt aufblüh-en",
    "appear": "erschein-en verschwind-en auftauch-en",
    "open": "öffn-en schließ-en",
    "follow": "folg-en verfolg-en",
    "snowfall": "schnei-en schneit schneien schneefall",
    "rainfall": "regn-en regnet",
    "timelapse": "zeitraffer",
}
_PHRASES = {
    "nach links": "left",
    "nach rechts": "right",
    "von links nach rechts": "right",
    "von rechts nach links": "left",
    "nach oben": "up",
    "nach unten": "down",
    "von unten nach oben": "up",
    "von oben nach unten": "down",
    "auf und ab": "up-down",
    "hoch und runter": "up-down",
    "nach vorne": "forward",
    "nach vorn": "forward",
    "nach hinten": "back",
    "hin und her": "side-to-side sway",
    "von seite zu seite": "side-to-side sway",
    "im uhrzeigersinn": "clockwise",
    "gegen den uhrzeigersinn": "anticlockwise",
    "um sich selbst": "around",
    "um die eigene achse": "around",
    "im kreis": "around",
    "aus der hand": "handheld",
    "in zeitlupe": "gentle",
    "ein wenig": "gentle",
    "ein bisschen": "gentle",
    "sehr langsam": "gentle",
    "sehr sanft": "gentle",
    "sehr leicht": "gentle",
    "ganz leicht": "gentle",
    "ganz langsam": "gentle",
    "nicht zu schnell": "gentle",
    "nicht zu stark": "gentle",
    "nicht nur": "but",
    "nichts bewegt sich": "still",
    "steht still": "still",
    "stehen still": "still",
    "bleibt stehen": "still",
    "zum leben": "ambient",
    "zur kamera": "at-camera",
    "in die kamera": "at-camera",
    "auf die kamera": "at-camera",
    "im hintergrund": "background",
    "im vordergrund": "subject",
    "ganz vorne": "subject",
    "ganz vorn": "subject",
    "hinter ihm": "background",
    "hinter ihr": "background",
    "hinter ihnen": "background",
    "in der ferne": "background",
    "alles andere": "thing",
    "der rest": "thing",
    "noch einmal": "",
    "zoom in": "zoom in",
    "zoom out": "zoom out",
    "dreht sich um": "turn around",
    "drehen sich um": "turn around",
}
_FUNCTION_WORDS = """
    der die das den dem des ein eine einen einem einer eines zu zum zur von vom im in am an auf aus
    bei mit um über unter vor für durch es er sie sich ist sind wird werden sein seine seinen ihr
    ihre
    ihren ihrem dieser diese dieses mein meine wie so ganz auch soll sollen bleibt bleiben mach
    mache
    lass lasse lassen nach hin her ab man bitte beim gegen zwischen entlang etwas dass effekt
"""

GERMAN: Table = build(_WORDS, _PHRASES, _FUNCTION_WORDS, "wunderschön filmisch", forms=_forms)

# What compounds begin with, and the entries of that part.
COMPOUNDS = {
    spelled: entries
    for entries, parts in {
        "camera": "kamera bild drohnen",
        "left": "links",
        "right": "rechts",
        "in": "heran ran hinein herein rein",
        "out": "heraus raus hinaus",
        "away": "weg",
        "back": "zurück rück",
        "up": "hoch hinauf herauf aufwärts",
        "down": "runter hinunter herunter abwärts",
        "forward": "vorwärts vor",
        "gentle": "langsam",
        "wind": "wind",
        "water": "wasser wellen",
        "hair": "haar",
        "background": "hintergrund",
        "zoom": "zoom",
        "handheld": "hand",
        "around": "um herum",
    }.items()
    for part in parts.split()
    for spelled in spellings(part)
}
