"""Verdicts of an evaluation, kept in a file, so that one that was stopped goes on."""

import json
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

from workers.training.captions import Motion
from workers.training.measuring import Verdict


class Sample(NamedTuple):
    """What a sampled motion depends on. Arms that ask in the same words share it."""

    sampler: str  # a network and how it is sampled
    scene: int
    words: str


class Ledger:
    """Verdicts by sample, of one model. With a path, also in a file of JSON lines.

    A file is of one version of the code that samples and measures: delete it when that changes.
    """

    def __init__(self, model: str = "", path: Path | None = None):
        """`model`: name and version; what the file has of others is passed over."""
        self.model, self.path = model, path
        self.verdicts: dict[Sample, Verdict] = {}
        if path is not None and path.exists():
            text = path.read_text()
            whole = text[: text.rfind("\n") + 1]
            if whole != text:  # the last line was cut short; the next one must not follow it
                path.write_text(whole)
            for line in whole.splitlines():
                self._read(json.loads(line))

    def add(self, verdicts: Iterable[tuple[Sample, Verdict]]) -> None:
        """Keep verdicts, on disk too when this returns."""
        added = dict(verdicts)
        self.verdicts |= added
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.writelines(self._line(*each) for each in added.items())

    def _line(self, sample: Sample, verdict: Verdict) -> str:
        row = {
            "model": self.model,
            **sample._asdict(),
            "found": astuple(verdict.found),
            "error_px": round(verdict.error_px, 4),
            "strength": round(verdict.strength, 4),  # JSON as Python writes it may be NaN
        }
        return json.dumps(row) + "\n"

    def _read(self, row: dict[str, Any]) -> None:
        if row["model"] == self.model:
            sample = Sample(row["sampler"], row["scene"], row["words"])
            found = Motion(*row["found"])
            self.verdicts[sample] = Verdict(found, row["error_px"], row["strength"])
