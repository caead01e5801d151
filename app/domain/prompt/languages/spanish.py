"""Spanish. Accents are optional; "stem-ar" stands for the forms of a verb."""

from app.domain.prompt.languages.table import Table, build

_ENDINGS = {
    "ar": "ar a an ando e en ado ada ados adas arse ándose o",
    "er": "er e en iendo a an ido ida erse iéndose o",
    "ir": "ir e en iendo a an ido ida irse iéndose o",
}


def _forms(stem: str, ending: str) -> list[str]:
    return [f"{stem}{each}" for each in _ENDINGS[ending].split()]


_WORDS = {
    # How, and which way.
    "left": "izquierda izquierdo",
    "right": "derecha derecho",
    "up": "arriba",
    "down": "abajo",
    "in": "adentro dentro",
    "out": "afuera fuera",
    "forward": "adelante delante",
    "back": "atrás",
    "closer": "cerca",
    "away": "lejos",
    "around": "alrededor",
    "clockwise": "horario",
    "anticlockwise": "antihorario",
    "camera": "cámara cámaras toma plano imagen vista encuadre objetivo dron",
    "not": "no sin nunca jamás ningún ninguna ninguno tampoco",
    "nor": "ni",
    "or": "o u",
    "and": "y e",
    "but": "pero sino mientras entonces luego aunque",
    "only": "excepto salvo solo solamente únicamente",
    "stop": "evit-ar dej-ar",
    "nothing": "nada",
    "everything": "todo todos",
    "gentle": "suave suaves suavemente lento lenta lentos lentas lentamente despacio ligero"
    " ligera ligeramente sutil sutiles sutilmente leve levemente tranquilo tranquila"
    " delicadamente delicado delicada poco pausado",
    "strong": "fuerte fuertes fuertemente rápido rápida rápidos rápidas rápidamente intenso"
    " intensa intensamente violento violenta violentamente brusco brusca bruscamente dramático"
    " dramática dramáticamente salvaje salvajemente mucho enérgico veloz",
    # Camera.
    "zoom": "zum",
    "zoom in": "acerc-ar acercamiento acerque acerquen aproxim-ar aproximación ampliación",
    "zoom out": "alej-ar alejamiento",
    "pan": "pane-ar paneo paneos panorámica panorámico barrido",
    "track": "pan travelling",
    "tilt": "inclin-ar inclinación",
    "crane": "grúa",
    "orbit": "orbit-ar órbita orbital rode-ar",
    "rotate": "gir-ar giro giros rot-ar rotación",
    "move": "mov-er mueve mueven mueva muevan moviéndose movimiento movimientos desplaz-ar"
    " desplazamiento",
    "go": "va van vaya vayan ir yendo",
    "push": "avanz-ar avance avancen",
    "retreat": "retroced-er",
    "rise": "sub-ir ascend-er elev-ar levant-ar",
    "sink": "baj-ar descend-er",
    "shake": "tembl-ar tiembla tiemblan temblor temblores tembloroso temblorosa sacud-ir sacudida"
    " vibr-ar",
    "still": "estático estática fijo fija fijos inmóvil inmóviles quieto quieta quietos quietas"
    " congel-ar estacionario estacionaria",
    "reveal": "revel-ar",
    "parallax": "paralaje",
    # Things that move.
    "sway": "balance-ar balanceo mec-er meza mezan onde-ar ondeo agit-ar oscil-ar oscilación"
    " susurr-ar revolote-ar bambole-ar",
    "swirl": "arremolin-ar remolino remolinos",
    "blow": "sopl-ar",
    "rock": "menear menea menean",
    "bob": "rebot-ar brinc-ar salt-ar cabece-ar botar",
    "float": "flot-ar",
    "ripple": "ondul-ar ondulación ondulaciones fluir fluye fluyen fluyendo fluya fluyan rizar"
    " rizan",
    "wave": "ola olas oleaje onda ondas",
    "crash": "romp-er estrell-ar salpic-ar",
    "spin": "voltear peonza",
    "pulse": "lat-ir latido latidos palpit-ar respir-ar puls-ar hinch-ar",
    "grow": "crec-er",
    "drift": "deriv-ar deriva",
    "walk": "camin-ar corr-er and-ar",
    "fly": "vol-ar vuela vuelan vuele conduc-ir nad-ar viaj-ar",
    "sail": "naveg-ar",
    "fall": "ca-er cae caen cayendo caiga caigan",
    "turn": "volverse vuelve vuelven date gírate",
    # What moves.
    "wind": "viento vientos brisa",
    "water": "agua aguas lago río estanque arroyo superficie cascada fuente",
    "sea": "mar mares océano marea",
    "hair": "pelo cabello cabellos cabellera melena barba",
    "cloth": "vestido falda capa velo bufanda ropa tela cinta túnica",
    "flag": "bandera banderas estandarte",
    "smoke": "humo vapor niebla neblina bruma",
    "foliage": "hoja hojas árbol árboles hierba césped planta plantas rama ramas follaje palmera"
    " palmeras trigo cortina cortinas",
    "clouds": "nube nubes cielo",
    "fire": "fuego llama llamas vela velas hoguera antorcha",
    "snow": "nieve copos",
    "rain": "lluvia",
    "head": "cabeza cara rostro ojos ojo mirada",
    "limb": "mano manos brazo brazos pierna piernas dedo dedos alas cola",
    "mouth": "boca labios",
    "person": "persona personas gente mujer mujeres hombre hombres niña niño niños chica chico"
    " ella ellos ellas",
    "background": "fondo entorno detrás",
    "subject": "sujeto protagonista",
    "thing": "barco barcos coche perro gato pájaro pájaros caballo flor flores rosa globo farol"
    " casa puente casco cometa barca estatua sol luna luces",
    # What no model makes.
    "blink": "parpade-ar parpadeo guiñ-ar pestañe-ar",
    "smile": "sonríe sonríen sonriendo sonría sonrisa reír ríe ríen riendo llor-ar sonreír",
    "talk": "habl-ar cant-ar dice dicen",
    "nod": "asent-ir mir-ar",
    "gesture": "salud-ar aplaud-ir abraz-ar bes-ar señal-ar",
    "dance": "bail-ar danz-ar",
    "flicker": "parpadeante titil-ar",
    "glow": "brill-ar centelle-ar destell-ar",
    "burst": "explot-ar estall-ar",
    "change": "transform-ar cambi-ar cambia cambian florec-er derret-ir",
    "appear": "aparec-er desaparec-er",
    "open": "abr-ir cerr-ar cierra cierran",
    "follow": "siga sigue siguen siguiendo persigue",
    "snowfall": "nev-ar nieva nevada",
    "rainfall": "llov-er llueve",
}
_PHRASES = {
    "a la izquierda": "left",
    "hacia la izquierda": "left",
    "a la derecha": "right",
    "hacia la derecha": "right",
    "hacia arriba": "up",
    "hacia abajo": "down",
    "hacia adelante": "forward",
    "hacia delante": "forward",
    "hacia atrás": "back",
    "hacia adentro": "in",
    "hacia afuera": "out",
    "de izquierda a derecha": "right",
    "de derecha a izquierda": "left",
    "de abajo arriba": "up",
    "de arriba abajo": "down",
    "arriba y abajo": "up-down",
    "de arriba a abajo": "down",
    "sube y baja": "bob",
    "suben y bajan": "bob",
    "de un lado a otro": "side-to-side sway",
    "de lado a lado": "side-to-side sway",
    "en sentido horario": "clockwise",
    "sentido de las agujas del reloj": "clockwise",
    "en sentido antihorario": "anticlockwise",
    "sentido contrario a las agujas del reloj": "anticlockwise",
    "cámara en mano": "handheld",
    "cámara al hombro": "handheld",
    "sobre sí misma": "around",
    "sobre sí mismo": "around",
    "da vueltas": "spin",
    "dan vueltas": "spin",
    "dando vueltas": "spin",
    "un poco": "gentle",
    "cámara lenta": "gentle",
    "muy despacio": "gentle",
    "a lo lejos": "background",
    "en primer plano": "subject",
    "en el fondo": "background",
    "al fondo": "background",
    "primer plano": "",
    "por favor": "",
    "nada se mueve": "still",
    "a la cámara": "at-camera",
    "hacia la cámara": "at-camera",
    "no solo": "but",
    "el resto": "thing",
    "paso a paso": "",
    "plano fijo": "still camera",
    "plano estático": "still camera",
    "cobra vida": "ambient",
    "dale vida": "ambient",
    "en su lugar": "still",
}
_FUNCTION_WORDS = """
    el la los las un una unos unas de del al a en con por para que se su sus lo le les es está están
    muy más este esta esto estos estas mi tu como sobre entre hacia desde hasta queda quedan quede
    haz hace hacer debe mantén mantener mantiene permanece permanecen todo toda ha sean sea son una
    solo ya cuando efecto también
"""

SPANISH: Table = build(_WORDS, _PHRASES, _FUNCTION_WORDS, "hermoso cinematográfico", forms=_forms)
