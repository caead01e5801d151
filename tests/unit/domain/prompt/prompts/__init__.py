"""Tables of prompts, one for each language, and what is understood of each."""

from dataclasses import dataclass
from pathlib import Path

from app.domain.prompt.meaning import CAMERA, OBJECT

FAMILIES = {
    "camera": set(CAMERA),
    "object": set(OBJECT),
    "zoom": {"zoom in", "zoom out"},
    "pan": {"pan left", "pan right"},
    "tilt": {"tilt up", "tilt down"},
    "rotate": {"rotate left", "rotate right"},
    "drift": {"drift left", "drift right"},
}


@dataclass(frozen=True)
class Expected:
    """One line of a table. An empty cell: nothing, or normal strength for what moves."""

    prompt: str
    camera: str | None
    object: str | None
    strength: str | None
    target: str | None
    excluded: frozenset[str]
    unsupported: tuple[str, ...]


def table(language: str) -> list[Expected]:
    lines = (Path(__file__).parent / f"{language}.txt").read_text("utf-8").splitlines()
    return [_row(line) for line in lines if line and not line.startswith("#")]


def _row(line: str) -> Expected:
    cells = [cell.strip() for cell in line.split("|")]
    prompt, camera, thing, strength, target, refused, unsupported = cells + [""] * (7 - len(cells))
    excluded = [FAMILIES.get(each, {each}) for each in refused.split(", ") if each]
    return Expected(
        prompt,
        camera or None,
        thing or None,
        None if strength == "none" else strength or "normal",
        target or None,
        frozenset(str(motion) for family in excluded for motion in family),
        tuple(each for each in unsupported.split(", ") if each),
    )
