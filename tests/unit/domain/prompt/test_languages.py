"""Prompts that people write, in seven languages: what is understood of each."""

import time
import unicodedata

import pytest

from app.domain.prompt.languages.english import ENGLISH, FALSE_FRIENDS
from app.domain.prompt.lexicon import TABLES
from app.domain.prompt.reading import Grammar, understand
from tests.unit.domain.prompt.prompts import table

LANGUAGES = ["english", "spanish", "german", "french", "portuguese", "chinese", "japanese"]


def read(prompt):
    return understand(Grammar.MOTION_WORDS, prompt)


def found(prompt):
    got = read(prompt)
    return (
        got.camera,
        got.object,
        got.strength,
        got.target,
        frozenset(map(str, got.excluded)),
        got.unsupported,
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_prompt_of_the_table_is_understood(language):
    wrong = []
    for each in table(language):
        want = (
            each.camera,
            each.object,
            each.strength,
            each.target,
            each.excluded,
            each.unsupported,
        )
        if (got := found(each.prompt)) != want:
            wrong.append((each.prompt, want, got))
    assert wrong == []
    assert len(table(language)) >= (150 if language == "english" else 25)


@pytest.mark.parametrize("language", LANGUAGES)
def test_case_and_forms_of_characters_do_not_matter(language):
    for each in table(language):
        for form in ("NFC", "NFD", "NFKC"):
            assert found(unicodedata.normalize(form, each.prompt)) == found(each.prompt)
        assert found(each.prompt.upper()) == found(each.prompt), each.prompt.upper()


@pytest.mark.parametrize("language", ["spanish", "french", "portuguese"])
def test_accents_are_optional(language):
    for each in table(language):
        plain = unicodedata.normalize("NFD", each.prompt)
        plain = "".join(c for c in plain if not unicodedata.combining(c))
        assert found(plain) == found(each.prompt), plain


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("zoom in, schwenk nach links", "zoom in"),
        ("镜头推近, the hair sways gently", "gently subject sway, zoom in"),
        ("slow zoom in 髪が揺れる", "gently subject sway, zoom in"),
        ("ズームイン、頭髮飄動", "subject sway, zoom in"),
        ("pan left, sin zoom, nur das Wasser", "background ripple, pan left"),
        ("la cámara hace zoom in", "zoom in"),
        ("Kamera langsam zoom out", "gently zoom out"),
        ("鏡頭緩慢推進", "gently zoom in"),
    ],
)
def test_languages_may_be_mixed(prompt, plain):
    assert understand(Grammar.LAYERED_MOTION_WORDS, prompt).plain == plain


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("zoom no rosto", "zoom in"),  # Portuguese for "on the"
        ("no zoom", "gently sway"),
        ("un pan con mantequilla", ""),  # Spanish for bread
        ("a pan to the left", "pan left"),
        ("un pan a la izquierda", "pan left"),
        ("パンを焼く", ""),  # bread again
        ("die Wellen", "background ripple"),
        ("die cast waves", "background ripple"),
        ("son visage", ""),
        ("son of a fisherman, zoom in", "zoom in"),
        ("links in a chain", ""),
        ("Kamera schwenkt links", "pan left"),
        ("the air vent", ""),
        ("le vent souffle", "sway"),
        ("fast cars", ""),
        ("fast and slow", ""),
        ("rock", ""),
        ("or noir", ""),  # French for gold
        ("zoom or pan", "zoom in"),
        ("come closer", "zoom in"),
        ("el perro come", ""),
        ("still", "still"),
        ("rock n roll n zoom", "zoom in"),
        ("風景", ""),
        ("风格", ""),
        ("微风", "sway"),
    ],
)
def test_a_word_is_read_in_the_language_of_its_neighbours(prompt, plain):
    assert understand(Grammar.LAYERED_MOTION_WORDS, prompt).plain == plain


def test_english_words_that_other_languages_use_otherwise_are_known():
    """A word of two languages is English where nothing else speaks for the other."""
    common = """
        bald bad war die den was her man art gift hat kind fast hell links rock wand brand stern
        fall rot son air main pour sale come mar sol vague rein fort cape tour fond or on no as do
    """
    meant = {word for word in common.split() for table in TABLES[1:] if table.entries.get(word)}
    assert meant <= FALSE_FRIENDS | {word for word in meant if ENGLISH.knows(word)}


@pytest.mark.parametrize(
    "unit",
    [
        *("no , ", "pan ", "no or ", "not ", "字", "パ", "ｶﾞ", "\uff9e", "kameraschwenk", "l'"),
        *("and no sway ", "\ufdfa", "nicht ", "揺れない", "only ", "a\u0301", "か\u3099", "the a "),
    ],
)
def test_the_time_of_reading_grows_with_the_length_alone(unit):
    """Eight times the text takes about eight times as long; squared it would be 64 times."""

    def seconds(chars):
        prompt = (unit * chars)[:chars]
        begun = time.process_time()
        read(prompt + str(chars))
        return time.process_time() - begun

    short = max(min(seconds(1000 + n) for n in range(3)), 0.001)
    assert min(seconds(8000 + n) for n in range(2)) < 32 * short


def test_a_typical_prompt_is_read_in_a_moment():
    prompts = [each.prompt for name in LANGUAGES for each in table(name)]
    begun = time.process_time()
    for prompt in prompts:
        read(prompt + " ")
    assert (time.process_time() - begun) / len(prompts) < 0.005  # 0.0003 on a quiet machine
