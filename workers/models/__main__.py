"""`python -m workers.models`: list, fetch, check, warm and compile the models that workers serve.

Exit status: 0 success; 1 a check failed; 2 wrong arguments; 78 a profile or its checkpoint cannot
be used (EX_CONFIG), with one sentence that says why.
"""

import json
import sys
import time
from importlib.resources import files
from typing import Any

import click

from app.config.profiles_file import ProfilesFileError
from app.config.settings import ConfigError, ModelSettings, model_settings
from app.domain.job.profiles import Profile
from stillmotion.errors import StillmotionError
from workers.engines.registry import load_engine

EX_FAILED, EX_CONFIG = 1, 78
GIB = 1 << 30


@click.group(help="List, fetch, check, warm and compile the models of MODEL_PROFILES.")
def cli() -> None: ...


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_models(as_json: bool) -> None:
    """List every profile: its engine, licence, and whether its checkpoint is here."""
    rows = [_row(profile) for profile in model_settings().profiles.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    widths = {key: max(len(str(row[key])) for row in rows) for key in ("name", "engine", "state")}
    for row in rows:
        cells = [str(row[key]).ljust(width) for key, width in widths.items()]
        click.echo("  ".join([*cells, str(row["licence"])]).rstrip())


def _row(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "engine": profile.engine,
        "state": _state(profile),
        "licence": profile.licence,
        "licence_accepted_by": profile.licence_accepted_by or None,
        "sizes": [f"{size.width}x{size.height}" for size in profile.sizes] or None,
        "file": str(profile.source),
    }


def _state(profile: Profile) -> str:
    """Whether the checkpoint is here, and how large it is in the profile's types."""
    if profile.engine != "diffusers":
        return "ready"
    from workers.engines.diffusers import checkpoint, sources
    from workers.engines.diffusers.table import read_table

    try:
        table = read_table(profile)
        found = checkpoint.open_checkpoint(sources.locate(profile, table), table.variant)
        checkpoint.check_licence(profile)
    except ProfilesFileError:
        return "wrong"
    except StillmotionError as error:
        return "licence" if "licence" in str(error) else "missing"
    return f"{sum(found.weight_bytes(table).values()) / GIB:.1f} GiB"


@cli.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Download the checkpoint of profile NAME, unless it is here, and check its files.

    Without SHA-256 sums in the profile, prints those of the files, to be put there.
    """
    from workers.engines.diffusers import checkpoint, sources
    from workers.engines.diffusers.table import read_table

    profile = _profile(model_settings(), name)
    if profile.engine != "diffusers":
        raise ConfigError(f"The engine {profile.engine!r} fetches nothing.")
    table = read_table(profile)
    checkpoint.check_licence(profile)
    folder = sources.fetch(profile, table)
    found = checkpoint.open_checkpoint(folder, table.variant)
    checkpoint.check_sums(found, table.sha256)
    click.echo(folder)
    if not table.sha256:
        names = [path.relative_to(folder).as_posix() for path in found.weight_files()]
        click.echo("\n[diffusers.sha256]")
        for path, digest in checkpoint.sums(folder, names):
            click.echo(f'"{path}" = "{digest}"')


@cli.command()
@click.argument("name")
def warm(name: str) -> None:
    """Load profile NAME and render a picture at every size, as a worker does when it starts."""
    settings = model_settings()
    profile = _profile(settings, name)
    _timed(profile, settings)


@cli.command()
@click.argument("name")
def check(name: str) -> None:
    """Render with profile NAME in every way that it is served, and judge the clips."""
    from workers.models import checking

    settings = model_settings()
    profile = _profile(settings, name)
    if profile.engine != "diffusers":
        raise ConfigError(f"There are no checks for the engine {profile.engine!r}.")
    from workers.engines.diffusers.table import read_table

    table = read_table(profile)
    engine = _timed(profile, settings)
    picture = files("workers.engines.diffusers").joinpath("warm_up.jpg").read_bytes()
    given = {} if table.thresholds is None else table.thresholds.model_dump(exclude_none=True)
    failed = 0
    for finding in checking.check(
        engine,
        profile,
        picture,
        checking.Thresholds(**given),
        first_frame_kept=table.first_frame == "kept",
    ):
        click.echo(finding)
        failed += not finding.good
    if table.thresholds is None:
        click.echo("The thresholds are uncalibrated: set [diffusers.thresholds] in the profile.")
    if failed:
        click.echo(f"{failed} of the checks failed.", err=True)
        sys.exit(EX_FAILED)


@cli.command("compile")
@click.argument("name")
def compile_packages(name: str) -> None:
    """Compile packages for the parts of profile NAME that are "aoti", so that workers need not.

    Run it where workers run: packages fit one version of the libraries and one kind of device.
    """
    profile = _profile(model_settings(), name)
    if profile.engine != "diffusers":
        raise ConfigError(f"The engine {profile.engine!r} compiles nothing.")
    import torch

    from workers.engines.diffusers import packaging
    from workers.engines.diffusers.table import read_table

    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    click.echo(packaging.build(profile, read_table(profile), device, click.echo))


def _timed(profile: Profile, settings: ModelSettings) -> Any:
    """The loaded and warm engine; prints how long that took."""
    start = time.monotonic()
    engine = load_engine(profile, settings)
    loaded = time.monotonic()
    engine.warm_up()
    warm = time.monotonic()
    click.echo(
        f"{profile.name}: loaded in {loaded - start:.1f} s, warm after {warm - loaded:.1f} s"
    )
    return engine


def _profile(settings: ModelSettings, name: str) -> Profile:
    if name not in settings.profiles:
        known = ", ".join(settings.profiles)
        raise ConfigError(f"There is no profile {name!r}; known: {known}.")
    return settings.profiles[name]


def main() -> None:
    try:
        cli(prog_name="python -m workers.models")
    except (ConfigError, StillmotionError, ProfilesFileError) as error:
        print(f"workers.models: {error}", file=sys.stderr)
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
