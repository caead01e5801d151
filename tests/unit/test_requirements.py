"""Ranges, exact versions, hashes and known holes agree with each other."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.services import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
HOLES = tomllib.loads((ROOT / ".ci/advisories.toml").read_text())["hole"]
# File of requirements: the extras that it installs.
HASHED = {
    "server": ("server", "tracing"),
    "worker": ("server", "worker", "tracing"),
    "flower": ("server", "tracing", "flower"),
}
ENTRY = re.compile(
    r"^(?P<pin>[\w.-]+==\S+)(?: ; (?P<marker>.+?))? \\\n(?P<hashes>(?: +--hash.*\n)+)", re.M
)


def requirements(*extras: str) -> list[Requirement]:
    return [Requirement(line) for name in extras for line in EXTRAS[name]] + [
        Requirement(line) for line in PROJECT["dependencies"]
    ]


def hashed(name: str) -> dict[str, tuple[Version, list[str]]]:
    """{package: (version, hashes)} of a requirements file; fails for a line of another form."""
    content = (ROOT / "requirements" / f"{name}.txt").read_text()
    rest = ENTRY.sub("", content)
    assert rest.split() == ["--only-binary", ":all:"], rest
    found = {}
    for entry in ENTRY.finditer(content):
        package, _, version = entry["pin"].partition("==")
        found[canonicalize_name(package)] = Version(version), entry["hashes"].split("\\")
    return found


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.partition("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, _, version in pins}


@pytest.mark.parametrize("name", HASHED)
def test_a_hashed_file_has_the_tested_versions_and_nothing_without_a_hash(name):
    tested = constraints()
    found = hashed(name)
    assert len(found) > 40
    for package, (version, hashes) in found.items():
        assert tested.get(package, version) == version, f"{package}: run scripts/lock"
        assert all(re.fullmatch(r"\s*--hash=sha256:[0-9a-f]{64}\s*", each) for each in hashes)


@pytest.mark.parametrize("name", HASHED)
def test_a_hashed_file_holds_everything_that_is_required(name):
    """What the project asks for, and what those packages ask for in turn."""
    found, seen = hashed(name), set()
    open_ends = [
        (each, extra) for each in requirements(*HASHED[name]) for extra in {"", *each.extras}
    ]
    while open_ends:
        required, extra = open_ends.pop()
        package = canonicalize_name(required.name)
        assert package in found, f"{package} is missing: run scripts/lock"
        assert required.specifier.contains(found[package][0]), f"{required}: run scripts/lock"
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        for line in metadata.requires(package) or ():
            child = Requirement(line)
            if child.marker is None or child.marker.evaluate({"extra": extra}):
                open_ends += [(child, each) for each in {"", *child.extras}]
    assert len(seen) > 40


def test_the_exact_versions_are_in_the_ranges():
    tested = constraints()
    for required in requirements(*EXTRAS):
        assert required.specifier.contains(tested[canonicalize_name(required.name)]), required


@pytest.mark.parametrize("hole", HOLES, ids=lambda hole: hole["id"])
def test_no_range_lets_in_a_release_with_a_known_hole(hole):
    fixed = Version(hole["fixed"])
    ranges = [
        each for each in requirements(*EXTRAS) if canonicalize_name(each.name) == hole["package"]
    ]
    assert ranges, "a package that others bring along needs a floor of its own"
    for required in ranges:
        floors = [
            Version(each.version) for each in required.specifier if each.operator in (">=", "==")
        ]
        assert floors and max(floors) >= fixed, required
    assert constraints()[hole["package"]] >= fixed


def test_the_files_name_no_package_index():
    for path in Path(ROOT / "requirements").iterdir():
        assert "://" not in path.read_text()
