"""Finds a profile's engine: the folder of this package that has its name, or an entry point.

An engine of your own is a package that declares, in its `pyproject.toml`,

    [project.entry-points."stillmotion.engines"]
    ours = "our_package:load"

and is installed next to the worker. Profiles name it (`engine = "ours"`) and live in the directory
MODEL_PROFILES. docs/guides/models.md has a whole example.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec

from app.config.settings import ConfigError, ModelSettings
from app.domain.job.profiles import Profile
from workers.engines.base import AnyEngine

GROUP = "stillmotion.engines"

Load = Callable[[Profile, ModelSettings], AnyEngine]


def load_engine(profile: Profile, config: ModelSettings) -> AnyEngine:
    """Load the engine that `profile.engine` names. Imports only that engine's libraries.

    Raises ConfigError if there is no such engine or it cannot be imported, and StillmotionError if
    its checkpoint is unusable.
    """
    module = f"{__package__}.{profile.engine}"
    try:
        if find_spec(module) is not None:
            if check := getattr(import_module(module), "check", None):
                check(config)
            load: Load = import_module(f"{module}.engine").load
        else:
            load = _entry_point(profile)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The engine {profile.engine!r} of {profile.name!r} cannot be imported: {error}."
        ) from error
    return load(profile, config)


def _entry_point(profile: Profile) -> Load:
    found = list(entry_points(group=GROUP, name=profile.engine))
    if not found:
        raise ConfigError(f"Profile {profile.name!r} names an unknown engine, {profile.engine!r}.")
    if len(found) > 1:
        raise ConfigError(f"More than one package declares the engine {profile.engine!r}.")
    load: Load = found[0].load()
    return load
