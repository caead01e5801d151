"""Profile files: one TOML file per model profile, in the folder of its engine.

    name = "motion-small"
    engine = "motion"          # the folder in workers/engines that renders it
    network = "student"        # in the model directory; omit it if the engine has no model
    grammar = "motion-words"   # how prompts are read; omit it if the engine takes free text
    targets = false            # whether a prompt may name what is moved: subject or background
    licence = "Apache-2.0"
    steps = 4
    passes = 1                 # forward passes of the denoiser per step
    min_frames = 8             # likewise max_ and default_; the same three for fps and size
    attempt_limit_s = 300.0
    stall_limit_s = 60.0

The only reader of these files. It needs neither the engine nor its libraries, and reports every
mistake with its line number.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from app.config.toml_file import Problem, Table, TomlFile, TomlFileError
from app.domain.job.profiles import Profile, misfits
from app.domain.prompt.reading import Grammar

ENGINES = Path(__file__).parents[2] / "workers" / "engines"

Name = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$")]
Engine = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
# The file has a string, which a strict table would not take for a Grammar.
GrammarName = Annotated[Grammar, Field(strict=False)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class ProfilesFileError(TomlFileError):
    """The file is not a valid profile, or another file already declares a profile of that name."""


class _Profile(Table):
    name: Name
    engine: Engine
    network: str = ""
    grammar: GrammarName | None = None
    targets: bool = False
    licence: Annotated[str, Field(min_length=1)]
    steps: Count
    passes: Annotated[int, Field(ge=0)]
    min_frames: Count
    max_frames: Count
    default_frames: Count
    min_fps: Count
    max_fps: Count
    default_fps: Count
    min_size: Count
    max_size: Count
    default_size: Count
    attempt_limit_s: Seconds
    stall_limit_s: Seconds


def read(path: Path) -> Profile:
    """The profile that a file declares. Raises ProfilesFileError, OSError."""
    toml = TomlFile(path, ProfilesFileError)
    profile = Profile(**dict(toml.check(_Profile)))
    if found := misfits(profile):
        toml.refuse([(sentence, (field,)) for sentence, field in found])
    return profile


def read_all(paths: Iterable[Path]) -> dict[str, Profile]:
    """Profiles by name, in the order of their names. Raises ProfilesFileError, OSError."""
    found: dict[str, Profile] = {}
    source: dict[str, Path] = {}
    for path in sorted(paths):
        profile = read(path)
        if (first := source.setdefault(profile.name, path)) != path:
            sentence = f"{first} already declares the profile {profile.name!r}."
            raise ProfilesFileError([Problem(path, 1, sentence)])
        found[profile.name] = profile
    return dict(sorted(found.items()))


# The profiles that ship with the service.
PROFILES: Mapping[str, Profile] = read_all(ENGINES.glob("*/profiles/*.toml"))
