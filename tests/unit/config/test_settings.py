"""Settings of models and regions, and the errors for wrong ones."""

import pytest

from app.config.profiles_file import PROFILES
from app.config.settings import ConfigError, Settings, settings

NEEDED = {
    "database_url": "postgresql://u@localhost/d",
    "redis_url": "redis://localhost",
    "objects_url": "file:///tmp/objects",
    "secret_key": "a-secret-key-that-only-the-tests-ever-use",
}
STUDENT, TEACHER = PROFILES["motion-small"], PROFILES["motion-small-teacher"]


def test_a_profile_has_its_own_steps_unless_they_are_set_for_it():
    plain = Settings(**NEEDED)
    assert (plain.steps_of(STUDENT), plain.steps_of(TEACHER)) == (4, 15)
    best = Settings(**NEEDED, model_profile=TEACHER.name, model_steps=32)
    assert (best.steps_of(STUDENT), best.steps_of(TEACHER)) == (4, 32)


def read_environment(monkeypatch, **changes):
    """What `settings()` says with these variables."""
    for key, given in (NEEDED | changes).items():
        monkeypatch.setenv(key.upper(), given)
    settings.cache_clear()
    try:
        return settings()
    finally:
        settings.cache_clear()


@pytest.mark.parametrize("name", ["secret_key", "previous_secret_key"])
def test_a_guessable_secret_key_is_one_sentence(monkeypatch, name):
    with pytest.raises(ConfigError, match=f"^{name.upper()}: looks guessable; make one") as error:
        read_environment(monkeypatch, **{name: "change-me-" * 4})
    assert "change-me" not in str(error.value)


def test_the_first_secret_key_signs_and_the_previous_one_is_accepted(monkeypatch):
    assert read_environment(monkeypatch).secret_keys == (NEEDED["secret_key"],)
    old = "another-secret-key-of-these-tests-alone"
    both = read_environment(monkeypatch, previous_secret_key=old)
    assert both.secret_keys == (NEEDED["secret_key"], old)
    assert old not in repr(both) and NEEDED["secret_key"] not in repr(both)


def test_a_default_retention_longer_than_the_longest_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"^MAX_RETENTION_S: must not be less than RETENTION_S$"):
        read_environment(monkeypatch, max_retention_s="60")


REGIONS = """
[[region]]
name = "aa"
rtt_ms = { bb = 1, cc = 1 }
[[region]]
name = "bb"
rtt_ms = { aa = 1, cc = 1 }
redis_url = "redis://bb"
[[region]]
name = "cc"
rtt_ms = { aa = 1, bb = 1 }
redis_url = "redis://cc"
broker_url = "amqp://cc"
"""


def test_a_region_without_its_own_services_uses_the_deployments(tmp_path):
    (tmp_path / "regions.toml").write_text(REGIONS)
    own = Settings(**NEEDED, region="aa", regions_file=tmp_path / "regions.toml")
    assert [own.redis_of(name) for name in ("aa", "bb", "cc", "gone")] == [
        *("redis://localhost", "redis://bb", "redis://cc", "redis://localhost")
    ]
    # The broker is in its own Redis: such a region must not depend on another's broker.
    rabbit = own.model_copy(update={"broker_url": "amqp://localhost"})
    assert [own.broker_of(name) for name in ("aa", "bb", "cc")] == [
        *("redis://localhost", "redis://bb", "amqp://cc")
    ]
    assert [rabbit.broker_of(name) for name in ("aa", "bb", "cc")] == [
        *("amqp://localhost", "redis://bb", "amqp://cc")
    ]


def test_a_directory_of_profiles_adds_to_those_that_ship(monkeypatch, tmp_path):
    text = STUDENT.source.read_text().replace('"motion-small"', '"mine"')
    (tmp_path / "mine.toml").write_text(text)
    found = read_environment(monkeypatch, model_profiles=str(tmp_path), served_profiles="noop,mine")
    assert found.served_profiles == ("noop", "mine")
    assert found.profiles["mine"].steps == STUDENT.steps


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = 1", r"^MODEL_PROFILES: .*/mine\.toml:1: name must be"),
        ('name = "motion-small"', r"^MODEL_PROFILES: .*/mine\.toml:1: .*engine"),
        (None, r"^MODEL_PROFILES: cannot read .*: No such file"),
    ],
)
def test_a_wrong_directory_of_profiles_is_one_sentence(monkeypatch, tmp_path, text, sentence):
    folder = tmp_path / "models"
    if text is not None:
        folder.mkdir()
        (folder / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_environment(monkeypatch, model_profiles=str(folder), model_profile="mine")


def test_a_region_missing_from_the_file_is_refused(tmp_path):
    (tmp_path / "regions.toml").write_text(REGIONS)
    lost = Settings(**NEEDED, region="dd", regions_file=tmp_path / "regions.toml")
    with pytest.raises(ConfigError, match="REGION 'dd' is not in"):
        assert lost.topology


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODEL_GRAPH", "onnx"), ("MODEL_DTYPE", "fp8"), ("MODEL_STEPS", "33")],
)
def test_an_invalid_setting_is_named(monkeypatch, name, value):
    for key, given in NEEDED.items():
        monkeypatch.setenv(key.upper(), given)
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    try:
        with pytest.raises(ConfigError, match=f"{name}: Input should be"):
            settings()
    finally:
        settings.cache_clear()
