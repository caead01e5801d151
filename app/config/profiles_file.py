"""Profile files: one TOML file per model profile, in the folder of its engine.

    name = "motion-small"
    engine = "motion"          # the folder in workers/engines, or the entry point, that renders it
    network = "student"        # in the model directory; omit it if the engine has no model
    grammar = "motion-words"   # how prompts are read; omit it if the engine takes free text
    targets = false            # whether a prompt may name what is moved: subject or background
    licence = "Apache-2.0"
    steps = 4
    passes = 1                 # forward passes of the denoiser per step
    min_frames = 8             # likewise max_ and default_; the same three for fps and size
    attempt_limit_s = 300.0
    stall_limit_s = 60.0

Optional, for models that are particular:

    sizes = ["832x480", "480x832"]       # all that it renders, instead of min_size and max_size
    frames_multiple = 4                  # a clip has 4k + 1 frames
    frames_plus = 1
    honours = ["prompt", "loop"]         # also motion and negative_prompt; default: the other three
    cost_factor = 30.0                   # work per frame, pixel and forward; motion-small has 1
    licence_limits = "..."               # in words; then somebody must accept the licence:
    licence_accepted_by = "..."

A table with the engine's name holds what only the engine understands; it checks that itself.

The only reader of these files. It needs neither the engine nor its libraries, and reports every
mistake with its line number.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainValidator

from app.config.toml_file import Problem, Table, TomlFile, TomlFileError
from app.domain.job.clip_size import ClipSize
from app.domain.job.profiles import USUAL_OPTIONS, Option, Profile, misfits
from app.domain.job.served_sizes import longest_sides, parse_size
from app.domain.prompt.reading import Grammar

ENGINES = Path(__file__).parents[2] / "workers" / "engines"

Name = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$")]
Engine = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
# The file has a string, which a strict table would not take for a Grammar.
GrammarName = Annotated[Grammar, Field(strict=False)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


def _size(value: object) -> ClipSize:
    if not isinstance(value, str):
        raise ValueError("must be a text such as '832x480'")
    return parse_size(value)


Size = Annotated[ClipSize, PlainValidator(_size)]
OptionName = Annotated[Option, Field(strict=False)]


class ProfilesFileError(TomlFileError):
    """The file is not a valid profile, or another file already declares a profile of that name."""


class _Profile(Table):
    name: Name
    engine: Engine
    network: str = ""
    grammar: GrammarName | None = None
    targets: bool = False
    licence: Annotated[str, Field(min_length=1)]
    licence_limits: str = ""
    licence_accepted_by: str = ""
    steps: Count
    passes: Annotated[int, Field(ge=0)]
    cost_factor: Annotated[float, Field(gt=0)] = 1.0
    min_frames: Count
    max_frames: Count
    default_frames: Count
    frames_multiple: Count = 1
    frames_plus: Annotated[int, Field(ge=0)] = 0
    min_fps: Count
    max_fps: Count
    default_fps: Count
    min_size: Count | None = None
    max_size: Count | None = None
    default_size: Count
    sizes: Annotated[list[Size], Field(min_length=1)] | None = None
    honours: list[OptionName] | None = None
    attempt_limit_s: Seconds
    stall_limit_s: Seconds


def read(path: Path) -> Profile:
    """The profile that a file declares. Raises ProfilesFileError, OSError."""
    toml = TomlFile(path, ProfilesFileError)
    engine = toml.get("engine")
    own_table = engine if isinstance(engine, str) else ""
    table = toml.check(_Profile, apart=own_table)
    if found := _wrong_sizes(table):
        toml.refuse([(sentence, (key,)) for sentence, key in found])
    sizes = tuple(table.sizes or ())
    sides = longest_sides(sizes)
    honours = USUAL_OPTIONS if table.honours is None else table.honours
    profile = Profile(
        **dict(table)
        | {
            "sizes": sizes,
            "min_size": sides[0] if sides else table.min_size,
            "max_size": sides[-1] if sides else table.max_size,
            "honours": frozenset(honours),
            "has_model": bool(table.network) or toml.get(own_table) is not None,
            "source": path,
        }
    )
    if found := misfits(profile):
        toml.refuse([(sentence, (key,)) for sentence, key in found])
    return profile


def _wrong_sizes(table: _Profile) -> list[tuple[str, str]]:
    """A profile either lists its sizes or has a range of them: (sentence, key)."""
    given = {key: getattr(table, key) is not None for key in ("min_size", "max_size")}
    if table.sizes is None:
        return [(f"the key {key!r} is missing", key) for key, here in given.items() if not here]
    return [(f"{key} follows from sizes; leave it out", key) for key, here in given.items() if here]


def read_all(
    paths: Iterable[Path], known: Mapping[str, Profile] | None = None
) -> dict[str, Profile]:
    """Profiles by name, in the order of their names; those `known` before, too.

    Raises ProfilesFileError, OSError.
    """
    found = dict(known or {})
    for path in sorted(paths):
        profile = read(path)
        if (first := found.get(profile.name)) is not None:
            sentence = f"{first.source} already declares the profile {profile.name!r}."
            line = TomlFile(path, ProfilesFileError).line_of("name")
            raise ProfilesFileError([Problem(path, line, sentence)])
        found[profile.name] = profile
    return dict(sorted(found.items()))


# The profiles that ship with the service.
PROFILES: Mapping[str, Profile] = read_all(ENGINES.glob("*/profiles/*.toml"))


@lru_cache(maxsize=8)
def profiles_in(directory: Path | None) -> Mapping[str, Profile]:
    """The profiles that ship, and those of an operator's directory; read once per process.

    Raises ProfilesFileError; OSError if the directory cannot be read.
    """
    if directory is None:
        return PROFILES
    files = [path for path in directory.iterdir() if path.suffix == ".toml"]
    return read_all(files, PROFILES)
