"""Finds a profile's engine: the folder of this package that has the engine's name."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from app.config.settings import ConfigError, Settings
from app.domain.job.profiles import Profile
from workers.engines.base import AnyEngine


def load_engine(profile: Profile, config: Settings) -> AnyEngine:
    """Load the engine that `profile.engine` names. Imports only that engine's libraries.

    Raises ConfigError if there is no such engine, and StillmotionError if its checkpoint is
    unusable.
    """
    module = f"{__package__}.{profile.engine}"
    if find_spec(module) is None:
        raise ConfigError(f"Profile {profile.name!r} names an unknown engine, {profile.engine!r}.")
    load: Callable[[Profile, Settings], AnyEngine] = import_module(f"{module}.engine").load
    return load(profile, config)
