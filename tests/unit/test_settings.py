"""Settings that choose the model: what they mean, and how wrong ones are told."""

import pytest

from app.config import ConfigError, Settings, settings
from app.domain.profiles import PROFILES

NEEDED = {
    "database_url": "postgresql://u@localhost/d",
    "redis_url": "redis://localhost",
    "objects_url": "file:///tmp/objects",
    "secret_key": "k" * 32,
}
STUDENT, TEACHER = PROFILES["motion-small"], PROFILES["motion-small-teacher"]


def test_a_profile_has_its_own_steps_unless_they_are_set_for_it():
    plain = Settings(**NEEDED)
    assert (plain.steps_of(STUDENT), plain.steps_of(TEACHER)) == (8, 15)
    best = Settings(**NEEDED, model_profile=TEACHER.name, model_steps=32)
    assert (best.steps_of(STUDENT), best.steps_of(TEACHER)) == (8, 32)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODEL_GRAPH", "onnx"), ("MODEL_DTYPE", "fp8"), ("MODEL_STEPS", "33")],
)
def test_a_wrong_setting_is_named(monkeypatch, name, value):
    for key, given in NEEDED.items():
        monkeypatch.setenv(key.upper(), given)
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    try:
        with pytest.raises(ConfigError, match=f"{name}: Input should be"):
            settings()
    finally:
        settings.cache_clear()
