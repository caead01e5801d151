"""Profile files: what they declare, and the line of every mistake in one."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from app.config import profiles_file
from app.config.profiles_file import ENGINES, PROFILES, ProfilesFileError
from app.config.settings import ConfigError
from app.domain.job.profiles import DEFAULT_PROFILE, USUAL_OPTIONS, Option
from app.domain.prompt.reading import Grammar
from tests.support import services
from workers.engines.registry import load_engine

SHIPPED = sorted(ENGINES.glob("*/profiles/*.toml"))
WHOLE = (ENGINES / "motion/profiles/motion-small.toml").read_text()
WHOLE = WHOLE.replace('"layered-motion-words"\ntargets = true', '"motion-words"')


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def line_of(start):
    return next(n for n, line in enumerate(WHOLE.splitlines(), 1) if line.startswith(start))


def test_every_shipped_file_is_a_profile_of_an_engine_that_exists():
    assert DEFAULT_PROFILE in PROFILES
    assert len(PROFILES) == len(SHIPPED) >= 3
    for path in SHIPPED:
        profile = profiles_file.read(path)
        assert PROFILES[profile.name] == profile
        assert (path.stem, path.parts[-3]) == (profile.name, profile.engine)
        assert find_spec(f"workers.engines.{profile.engine}.engine") is not None


def test_a_file_declares_every_field(write):
    text = WHOLE.replace("default_frames = 48", "default_frames = 16")
    profile = profiles_file.read(write(text.replace('"motion-small"', '"mine"')))
    assert (profile.name, profile.engine, profile.network) == ("mine", "motion", "student")
    assert (profile.min_frames, profile.default_frames, profile.max_frames) == (8, 16, 96)
    assert (profile.attempt_limit_s, profile.stall_limit_s) == (300, 60)


def test_only_a_profile_that_names_a_grammar_has_one(write):
    assert PROFILES["motion-small"].grammar is Grammar.LAYERED_MOTION_WORDS
    assert PROFILES["motion-small-teacher"].grammar is Grammar.LAYERED_MOTION_WORDS
    assert PROFILES["noop"].grammar is None
    free = profiles_file.read(write(WHOLE.replace('grammar = "motion-words"\n', "")))
    assert free.grammar is None


def test_a_profile_may_move_what_a_prompt_names(write):
    assert PROFILES["motion-small"].targets and not PROFILES["noop"].targets
    layered = WHOLE.replace('"motion-words"', '"layered-motion-words"\ntargets = true')
    profile = profiles_file.read(write(layered))
    assert (profile.grammar, profile.targets) == (Grammar.LAYERED_MOTION_WORDS, True)
    free = WHOLE.replace('grammar = "motion-words"', "targets = true")
    with pytest.raises(ProfilesFileError, match="targets needs a grammar"):
        profiles_file.read(write(free))


def test_an_engine_without_a_model_needs_no_network(write):
    assert profiles_file.read(write(WHOLE.replace('network = "student"\n', ""))).network == ""


@pytest.mark.parametrize(
    ("old", "new", "start", "sentence"),
    [
        ("steps = 4", "steps = ", "steps", "invalid value"),
        ("steps = 4", "stepps = 4", "steps", "unknown key 'stepps'"),
        ("steps = 4", 'steps = "4"', "steps", "steps must be a valid integer"),
        ("steps = 4", "steps = 0", "steps", "steps must be greater than or equal to 1"),
        ("passes = 1", "passes = -1", "passes", "passes must be greater than or equal to 0"),
        ('"motion-small"', '"Motion Small"', "name", "name must match pattern"),
        ('engine = "motion"', 'engine = "../evil"', "engine", "engine must match pattern"),
        ('"motion-words"', '"magic"', "grammar", "grammar must be 'motion-words'"),
        ('"motion-words"', '"layered-motion-words"', "grammar", "needs targets = true"),
        ('"Apache-2.0"', '""', "licence", "licence must have at least 1 character"),
        ("max_fps = 30", "max_fps = 7", "max_fps", "max_fps must be at least min_fps, 8"),
        ("default_size = 512", "default_size = 9", "default_size", "must be 64 to 1024"),
        ("stall_limit_s = 60.0", "stall_limit_s = inf", "stall", "must be a finite number"),
        ("stall_limit_s = 60.0", "stall_limit_s = 301", "stall", "at most attempt_limit_s, 300"),
    ],
)
def test_every_mistake_is_reported_with_its_line(write, old, new, start, sentence):
    path = write(WHOLE.replace(old, new))
    with pytest.raises(ProfilesFileError) as refused:
        profiles_file.read(path)
    problems = [p for p in refused.value.problems if sentence in p.sentence]
    assert [str(p).startswith(f"{path}:{line_of(start)}: ") for p in problems] == [True]


SIZES = WHOLE.replace(
    "min_size = 64\nmax_size = 1024\ndefault_size = 512",
    """
sizes = ["832x480", "480x832", "1280x720"]
default_size = 832
frames_multiple = 8""",
)


def test_a_model_may_render_a_few_sizes_and_numbers_of_frames(write):
    text = SIZES.replace('grammar = "motion-words"', 'honours = ["prompt", "loop"]')
    profile = profiles_file.read(write(text))
    assert profile.sizes == ((832, 480), (480, 832), (1280, 720))
    assert (profile.min_size, profile.default_size, profile.max_size) == (832, 832, 1280)
    assert profile.takes_frames(48) and not profile.takes_frames(49)
    assert profile.honours == {Option.PROMPT, Option.LOOP}
    assert profiles_file.read(write(WHOLE)).honours == USUAL_OPTIONS


@pytest.mark.parametrize(
    ("old", "new", "start", "sentence"),
    [
        ('"480x832"', '"480"', "sizes", "sizes '480' is not WIDTHxHEIGHT"),
        ('"480x832"', '"481x832"', "sizes", "sizes '481x832' must have two even sides"),
        ('"480x832"', "480", "sizes", "sizes must be a text such as '832x480'"),
        ("default_size = 832", "default_size = 1000", "default_size", "of a size: 832, 1280"),
        (
            "default_size = 832",
            "default_size = 832\nmax_size = 9",
            "max_size",
            "follows from sizes",
        ),
        ("frames_multiple = 8", "frames_multiple = 7", "min_frames", "min_frames must be 7k"),
        (
            "steps = 4",
            'steps = 4\nhonours = ["sound"]',
            "honours",
            "must be 'prompt', 'negative_prompt'",
        ),
        (
            "steps = 4",
            'steps = 4\nhonours = ["negative_prompt"]',
            "honours",
            "no effect without a second, guiding pass",
        ),
    ],
)
def test_every_mistake_in_sizes_has_its_line(write, old, new, start, sentence):
    text = SIZES.replace(old, new)
    with pytest.raises(ProfilesFileError, match=r"mine\.toml") as refused:
        profiles_file.read(write(text))
    line = next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith(start))
    assert [p.line for p in refused.value.problems if sentence in p.sentence] == [line]


def test_a_table_of_the_engines_own_is_left_to_the_engine(write):
    own = profiles_file.read(write(f"{WHOLE}\n[motion]\nanything = 1\n"))
    assert own.has_model
    with pytest.raises(ProfilesFileError, match="unknown key 'diffusers'"):
        profiles_file.read(write(f"{WHOLE}\n[diffusers]\nanything = 1\n"))


def test_profiles_of_a_directory_join_those_that_ship(write, tmp_path):
    write(WHOLE.replace('"motion-small"', '"mine"'))
    (tmp_path / "notes.txt").write_text("no profile")
    assert list(profiles_file.profiles_in(tmp_path)) == sorted([*PROFILES, "mine"])
    assert profiles_file.profiles_in(None) is PROFILES


def test_a_missing_key_is_named(write):
    with pytest.raises(ProfilesFileError, match=r"mine.toml:1: the key 'licence' is missing\."):
        profiles_file.read(write(WHOLE.replace('licence = "Apache-2.0"\n', "")))


def test_two_profiles_with_one_name_are_refused(write):
    paths = [write(WHOLE, "a.toml"), write(WHOLE, "b.toml")]
    with pytest.raises(
        ProfilesFileError, match=r"b.toml:4: .*a.toml already declares .*'motion-small'"
    ):
        profiles_file.read_all(paths)


def test_an_engine_that_does_not_exist_is_named(write):
    profile = profiles_file.read(write(WHOLE.replace('engine = "motion"', 'engine = "warp"')))
    with pytest.raises(ConfigError, match="'motion-small' names an unknown engine, 'warp'"):
        load_engine(profile, config=None)


@pytest.mark.parametrize("code", ["import app.config.settings", "LOAD_NOOP"])
def test_only_an_engine_with_a_model_imports_torch(code):
    load_noop = """
from app.config.profiles_file import PROFILES
from app.config.settings import ModelSettings
from workers.engines.registry import load_engine
engine = load_engine(PROFILES["noop"], ModelSettings())
engine.warm_up()
"""
    code = load_noop if code == "LOAD_NOOP" else code
    check = "\nimport sys; assert not {'torch', 'diffusers', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code + check], check=True, cwd=services.ROOT)
