"""Local object storage that can be taken away, made read-only and given back."""

import contextlib
import shutil
from pathlib import Path


class Storage:
    """A directory behind a symbolic link.

    While it is away, the link points at itself: every read and write fails at once, for root as
    well, and no file is touched. While it is read-only, the folder of half-written files is such a
    link: reads work, writes fail.
    """

    def __init__(self, directory: Path):
        self._real = directory / "objects-real"
        self._real.mkdir()
        self._partial = self._real / ".partial"
        self._kept = self._real / ".partial-kept"
        self._link = directory / "objects"
        self.url = f"file://{self._link}"
        self.back()

    def away(self) -> None:
        self._point_at(self._link)

    def read_only(self) -> None:
        if self._partial.is_symlink():
            return
        if self._partial.exists():
            shutil.rmtree(self._kept, ignore_errors=True)  # left by an outage that a writer ended
            self._partial.rename(self._kept)
        # A writer may put the folder back in between; the next outage handles it.
        with contextlib.suppress(FileExistsError):
            self._partial.symlink_to(self._partial)

    def back(self) -> None:
        if self._partial.is_symlink():
            self._partial.unlink()
            if self._kept.exists():
                self._kept.rename(self._partial)
        self._point_at(self._real)

    @property
    def directory(self) -> Path:
        """Where the files are, whatever the link says."""
        return self._real

    def _point_at(self, target: Path) -> None:
        draft = self._link.with_name("objects-next")
        draft.symlink_to(target)
        draft.replace(self._link)
