"""What ships says what it is for, what it needs, and what its licence forbids."""

import re
from pathlib import Path

import pytest

from app.config import profiles_file
from tests.support import services
from workers.engines.diffusers.table import read_table

ENGINES = services.ROOT / "workers" / "engines"
SHIPPED = {
    path.stem: path
    for path in (
        *ENGINES.glob("diffusers/templates/*.toml"),
        ENGINES / "motion/profiles/motion-small.toml",
    )
}
# Licences without limits that deserve a name's signature.
FREE = {"Apache-2.0"}
GUIDE = (services.ROOT / "docs/guides/models.md").read_text()


def head(path: Path) -> str:
    """The comment that a file begins with."""
    return path.read_text().partition("\nname = ")[0]


def test_six_profiles_ship():
    assert sorted(SHIPPED) == [
        "ltx-2.3-distilled",
        "ltx-video-2b-distilled",
        "motion-small",
        "svd-xt",
        "wan2.2-i2v-lightning",
        "wan2.2-ti2v-5b",
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_says_its_purpose_memory_and_licence(name):
    profile = profiles_file.read(SHIPPED[name])
    text = head(SHIPPED[name])
    assert profile.name == name
    assert re.search(r"\d+ (GB|GiB|MB)", text), "no memory"
    assert len(re.sub(r"[#\n]", "", text).split(". ")[0]) > 40, "no purpose"
    assert (profile.licence in FREE) is (profile.licence_limits == "")
    assert not profile.licence_accepted_by, "nobody has accepted it for the operator"
    (row,) = (line for line in GUIDE.splitlines() if line.startswith(f"| `{name}`"))
    purpose, memory, licence = (cell.strip() for cell in row.split("|")[2:5])
    assert purpose and re.search(r"\d+ GB|CPU", memory)
    assert licence.split(":")[0].removesuffix(" Community") in profile.licence
    if profile.engine == "diffusers":
        assert read_table(profile).activations_gib > 0


@pytest.mark.parametrize("name", ["ltx-2.3-distilled", "ltx-video-2b-distilled", "svd-xt"])
def test_limits_are_in_words_and_name_the_revenue(name):
    limits = profiles_file.read(SHIPPED[name]).licence_limits
    assert re.search(r"free below \d+ million USD of annual revenue, paid above", limits)
    (row,) = (line for line in GUIDE.splitlines() if line.startswith(f"| `{name}`"))
    assert re.search(r"free below \d+ million USD", limits)[0] in row
