"""Where a checkpoint is on this machine. Only `models fetch` downloads anything."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from app.domain.job.profiles import Profile
from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable

# Weights only as safetensors; the rest is configuration and vocabularies.
WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "README.md"]


def locate(profile: Profile, table: DiffusersTable) -> Path:
    """The folder of the checkpoint. Raises Unusable if it is not on this machine."""
    if table.hub is None:
        folder = home_of(profile) / table.folder
        if not folder.is_dir():
            raise Unusable(f"{profile.name}: there is no folder {folder}.")
        return folder
    try:
        return Path(snapshot_download(table.hub, revision=table.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise Unusable(
            f"{profile.name}: {table.hub} at {table.revision} is not on this machine; run"
            f" python -m workers.models fetch {profile.name}."
        ) from None


def fetch(profile: Profile, table: DiffusersTable) -> Path:
    """The folder of the checkpoint, downloaded if it is not here yet. Raises Unusable."""
    if table.hub is None:
        return locate(profile, table)
    try:
        return Path(snapshot_download(table.hub, revision=table.revision, allow_patterns=WANTED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Unusable(f"{profile.name}: {table.hub} cannot be fetched: {error}") from error


def home_of(profile: Profile) -> Path:
    """What relative paths of a profile are relative to."""
    assert profile.source is not None, "profiles come from files"
    return profile.source.parent


def packages_of(profile: Profile, table: DiffusersTable) -> Path:
    """The directory of the profile's compiled packages, whether or not it is there."""
    return home_of(profile) / (table.packages or f"{profile.name}.packages")
