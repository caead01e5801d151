"""The table of the API guide: every phrase in it means what its row says."""

from pathlib import Path

from app.domain.prompt.reading import Grammar, understand

GUIDE = Path(__file__).parents[4] / "docs/guides/api.md"


def rows():
    lines = GUIDE.read_text("utf-8").split("## What you can ask for")[1].splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [row for row in table if len(row) == 8][1:]


def test_every_phrase_means_what_its_row_says():
    """A row without a target takes any."""
    wrong = []
    for motion, *cells in rows():
        for phrase in [phrase for cell in cells for phrase in cell.split(", ")]:
            found = understand(Grammar.LAYERED_MOTION_WORDS, phrase)
            plain = found.plain
            if found.target and found.target not in motion:
                plain = plain.replace(f"{found.target} ", "")
            if plain != motion:
                wrong.append((motion, phrase, found.plain))
    assert wrong == []
    assert len(rows()) > 20
