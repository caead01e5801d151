"""Settings of models and regions, and the errors for wrong ones."""

import pytest

from app.config.profiles_file import PROFILES
from app.config.settings import ConfigError, Settings, settings

NEEDED = {
    "database_url": "postgresql://u@localhost/d",
    "redis_url": "redis://localhost",
    "objects_url": "file:///tmp/objects",
    "secret_key": "k" * 32,
}
STUDENT, TEACHER = PROFILES["motion-small"], PROFILES["motion-small-teacher"]


def test_a_profile_has_its_own_steps_unless_they_are_set_for_it():
    plain = Settings(**NEEDED)
    assert (plain.steps_of(STUDENT), plain.steps_of(TEACHER)) == (4, 15)
    best = Settings(**NEEDED, model_profile=TEACHER.name, model_steps=32)
    assert (best.steps_of(STUDENT), best.steps_of(TEACHER)) == (4, 32)


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
