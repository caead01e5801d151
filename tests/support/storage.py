"""Local object storage that a test can take away and restore."""

from pathlib import Path


class Storage:
    """A directory behind a symbolic link. While it is away, the link points to itself, so all reads
    and writes fail at once, even for root, and no file is touched."""

    def __init__(self, directory: Path):
        self._real = directory / "objects-real"
        self._real.mkdir()
        self._link = directory / "objects"
        self.url = f"file://{self._link}"
        self.back()

    def away(self) -> None:
        self._point_at(self._link)

    def back(self) -> None:
        self._point_at(self._real)

    def _point_at(self, target: Path) -> None:
        draft = self._link.with_name("objects-next")
        draft.symlink_to(target)
        draft.replace(self._link)
