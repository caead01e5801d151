"""Portuguese, of Brazil and Portugal. Accents are optional."""

from app.domain.prompt.languages.table import Table, build

_ENDINGS = {
    "ar": "ar a am ando e em ado ada ados adas o",
    "er": "er e em endo a am ido ida o",
    "ir": "ir e em indo a am ido ida o",
}


def _forms(stem: str, ending: str) -> list[str]:
    return [f"{stem}{each}" for each in _ENDINGS[ending].split()]


_WORDS = {
    # How, and which way.
    "left": "esquerda esquerdo",
    "right": "direita direito",
    "up": "cima acima",
    "down": "baixo abaixo",
    "in": "dentro",
    "out": "fora",
    "forward": "frente adiante",
    "back": "trás",
    "closer": "perto",
    "away": "longe",
    "around": "redor volta torno",
    "clockwise": "horário",
    "anticlockwise": "antihorário",
    "camera": "câmera câmara câmeras tomada plano imagem vista drone quadro",
    "not": "não sem nunca jamais nenhum nenhuma",
    "nor": "nem",
    "or": "ou",
    "and": "e",
    "but": "mas enquanto então depois",
    "only": "exceto só somente apenas unicamente",
    "stop": "evit-ar evite",
    "nothing": "nada",
    "everything": "tudo todos",
    "gentle": "suave suaves suavemente lento lenta lentos lentas lentamente devagar leve leves"
    " levemente sutil sutis sutilmente subtil subtilmente ligeiramente calmo calma calmamente"
    " delicado delicadamente pouco",
    "strong": "forte fortes fortemente rápido rápida rápidos rápidas rapidamente depressa intenso"
    " intensa intensamente violento violenta violentamente brusco brusca bruscamente dramático"
    " dramática dramaticamente muito",
    # Camera.
    "zoom in": "aproxim-ar aproximação acerc-ar",
    "zoom out": "afast-ar afastamento distanci-ar",
    "pan": "panorâmica panorâmico varredura",
    "track": "pan travelling",
    "tilt": "inclin-ar inclinação",
    "crane": "grua",
    "orbit": "orbit-ar órbita orbital rode-ar rodeia contorn-ar circund-ar",
    "rotate": "gir-ar giro giros rotacion-ar rotação rodar rodando rodam",
    "move": "mov-er move movem mova movam movendo movimento movimentos moviment-ar desloc-ar mexe"
    " mexem mexendo mexer",
    "go": "vai vão vá ir indo",
    "push": "avanç-ar avance avanço",
    "retreat": "recu-ar recuo",
    "rise": "sob-ir sobe subir subindo suba sobem ascend-er elev-ar levant-ar",
    "sink": "desc-er descendo desça",
    "shake": "trem-er treme trêmula trêmulo tremida tremor tremores balançada sacud-ir sacode",
    "still": "estático estática fixo fixa fixos parado parada parados paradas imóvel imóveis"
    " quieto quieta congel-ar estacionária",
    "reveal": "revel-ar",
    "parallax": "paralaxe",
    # Things that move.
    "sway": "balanç-ar balanço balance balancem oscil-ar oscilação agit-ar tremul-ar esvoaç-ar"
    " ondear farfalh-ar embal-ar drapej-ar",
    "swirl": "rodopi-ar rodopio redemoinho",
    "blow": "sopr-ar",
    "bob": "salt-ar pul-ar quic-ar",
    "float": "flutu-ar boi-ar boia",
    "ripple": "ondul-ar ondulação flu-ir flui fluem fluindo corrente",
    "wave": "onda ondas",
    "crash": "quebr-ar rebent-ar arrebent-ar resping-ar",
    "pulse": "pulsar pulsa pulsam pulsando pulsação respir-ar bate batimento palpit-ar",
    "grow": "cresc-er",
    "drift": "deriv-ar deriva",
    "walk": "caminh-ar and-ar corr-er",
    "fly": "vo-ar voa voam voando nad-ar viaj-ar dirig-ir",
    "sail": "naveg-ar velejar",
    "fall": "cair cai caem caindo caia caiam",
    "turn": "vir-ar",
    # What moves.
    "wind": "vento ventos brisa",
    "water": "água águas lago rio lagoa riacho superfície cachoeira cascata fonte",
    "sea": "mar mares oceano maré",
    "hair": "cabelo cabelos barba crina pelo",
    "cloth": "vestido saia capa véu cachecol roupa roupas tecido manto fita",
    "flag": "bandeira bandeiras estandarte",
    "smoke": "fumaça fumo vapor névoa neblina nevoeiro",
    "foliage": "folha folhas árvore árvores grama relva planta plantas galho galhos ramos"
    " folhagem palmeira palmeiras trigo cortina cortinas capim",
    "clouds": "nuvem nuvens céu",
    "fire": "fogo chama chamas vela velas fogueira tocha",
    "snow": "neve flocos",
    "rain": "chuva",
    "head": "cabeça rosto cara olhos olho olhar",
    "limb": "mão mãos braço braços perna pernas dedo dedos asas cauda rabo",
    "mouth": "boca lábios",
    "person": "pessoa pessoas gente mulher mulheres homem homens menina menino garota garoto"
    " criança ela ele elas eles",
    "background": "fundo cenário",
    "subject": "sujeito protagonista",
    "thing": "barco barcos carro cachorro cão gato pássaro pássaros cavalo flor flores rosa balão"
    " lanterna casa ponte capacete pipa estátua sol lua pão luzes",
    # What no model makes.
    "blink": "pisc-ar pisque pestanej-ar",
    "smile": "sorr-ir sorri sorriem sorriso rir ri riem rindo chor-ar",
    "talk": "fal-ar cant-ar diz conversa",
    "nod": "olha olham olhando olhe",
    "gesture": "acen-ar aban-ar aplaud-ir abraç-ar beij-ar",
    "dance": "danç-ar dance bail-ar",
    "flicker": "cintil-ar tremeluz-ir",
    "glow": "brilh-ar",
    "burst": "explod-ir",
    "change": "transform-ar mud-ar floresc-er derret-er",
    "appear": "aparec-er aparece desaparec-er surg-ir",
    "open": "abr-ir fech-ar",
    "follow": "segue seguem seguindo siga seguir acompanha",
    "snowfall": "nev-ar neva nevando nevasca",
    "rainfall": "chov-er chove",
}
_PHRASES = {
    "para a esquerda": "left",
    "à esquerda": "left",
    "pra esquerda": "left",
    "para a direita": "right",
    "à direita": "right",
    "pra direita": "right",
    "da esquerda para a direita": "right",
    "da direita para a esquerda": "left",
    "de baixo para cima": "up",
    "de cima para baixo": "down",
    "para cima e para baixo": "up-down",
    "para cima": "up",
    "para baixo": "down",
    "para a frente": "forward",
    "para frente": "forward",
    "para dentro": "in",
    "para fora": "out",
    "para trás": "back",
    "sobe e desce": "bob",
    "sobem e descem": "bob",
    "de um lado para o outro": "side-to-side sway",
    "de um lado a outro": "side-to-side sway",
    "de lado a lado": "side-to-side sway",
    "no sentido horário": "clockwise",
    "no sentido anti horário": "anticlockwise",
    "em torno de": "around",
    "ao redor de": "around",
    "câmera na mão": "handheld",
    "câmara na mão": "handheld",
    "dá voltas": "spin",
    "dão voltas": "spin",
    "dando voltas": "spin",
    "um pouco": "gentle",
    "câmera lenta": "gentle",
    "câmara lenta": "gentle",
    "muito lentamente": "gentle",
    "muito devagar": "gentle",
    "muito lento": "gentle",
    "muito suave": "gentle",
    "ao fundo": "background",
    "no fundo": "background",
    "ao longe": "background",
    "atrás dela": "background",
    "atrás dele": "background",
    "atrás deles": "background",
    "atrás delas": "background",
    "por trás": "background",
    "em primeiro plano": "subject",
    "primeiro plano": "",
    "por favor": "",
    "nada se move": "still",
    "nada se mexe": "still",
    "para a câmera": "at-camera",
    "não só": "but",
    "o resto": "thing",
    "plano fixo": "still camera",
    "ganha vida": "ambient",
    "dar vida": "ambient",
}
_FUNCTION_WORDS = """
    o a os as um uma uns umas de do da dos das em no na nos nas ao à aos às com por pelo pela para
    pra que se seu sua seus suas é está estão muito mais este esta isto esse essa meu minha como
    sobre entre até fica ficam fique mantenha manter mantém permanece permanecem faz faça fazer toda
    todo são seja ser num numa já também
"""

PORTUGUESE: Table = build(_WORDS, _PHRASES, _FUNCTION_WORDS, "bonito", forms=_forms)
