"""What a job and the command line say of a prompt."""

from dataclasses import replace

import pytest

from app.config.profiles_file import PROFILES
from app.domain.prompt.reading import Grammar
from app.public.present import understood_by
from stillmotion.cli.understood import line_of
from stillmotion.models import PromptUnderstood

SHEET = replace(
    PROFILES["motion-small"], targets=False, grammar=Grammar.MOTION_WORDS
)  # like a model that moves everything
LAYERS = replace(SHEET, targets=True)
TRAINED_WITH_LAYERS = replace(LAYERS, grammar=Grammar.LAYERED_MOTION_WORDS)


@pytest.mark.parametrize("layers", [LAYERS, TRAINED_WITH_LAYERS])
def test_a_target_is_shown_only_where_it_is_honoured(layers):
    prompt = "only the helmet sways, asdf"
    found = understood_by(SHEET, prompt)
    assert (found.object, found.target, found.ignored) == ("sway", None, ["helmet", "asdf"])
    found = understood_by(layers, prompt)
    assert (found.object, found.target, found.ignored) == ("sway", "subject", ["asdf"])


@pytest.mark.parametrize(
    ("profile", "prompt", "line"),
    [
        (SHEET, "the helmet sways, pan left", "sway, pan left; ignored: helmet"),
        (LAYERS, "the helmet gently sways, pan left", "sway of the subject, pan left, gentle"),
        (LAYERS, "solo el agua", "ripple of the background"),
        (SHEET, "asdf", "no motion words known: ambient"),
        (SHEET, "she blinks", "ambient"),
        (SHEET, "asdf, she blinks", "ambient; ignored: asdf"),
    ],
)
def test_a_line_says_what_counts(profile, prompt, line):
    answer = understood_by(profile, prompt).model_dump(mode="json")
    assert line_of(PromptUnderstood.model_validate(answer)) == line


def test_the_client_reads_what_an_older_server_says():
    answer = understood_by(SHEET, "she blinks, waves").model_dump(mode="json")
    for name in ("target", "unsupported", "hint"):
        del answer[name]
    found = PromptUnderstood.model_validate(answer)
    assert (found.target, found.unsupported, found.hint) == (None, [], None)
    assert line_of(found) == "ripple"
