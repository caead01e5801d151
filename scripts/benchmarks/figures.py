"""The results of a benchmark, and how they are displayed."""

import json
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured number; `at_most` or `at_least` is its target, if it has one.

    `value` is None if it could not be measured; `note` then says why.
    """

    name: str
    value: float | None
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g}" if self.at_least is not None else ""

    @property
    def verdict(self) -> str:
        if not self.target or self.value is None:
            return ""
        missed = (self.at_most is not None and self.value > self.at_most) or (
            self.at_least is not None and self.value < self.at_least
        )
        return "MISSED" if missed else "met"

    def __str__(self) -> str:
        value = "-" if self.value is None else f"{self.value:.4g}"
        notes = [f"{self.target}: {self.verdict}"] if self.verdict else []
        notes += [self.note] if self.note else []
        return f"{self.name} = {value}" + (f" ({'; '.join(notes)})" if notes else "")


def table(title: str, figures: list[Figure]) -> Table:
    shown = Table(title=title)
    noted = any(figure.note for figure in figures)
    shown.add_column("figure", min_width=max(len(figure.name) for figure in figures))
    for heading in ("value", "target", "", *(["note"] if noted else [])):
        shown.add_column(heading)
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:.4g}"
        cells = (figure.name, value, figure.target, figure.verdict)
        shown.add_row(*cells, *([escape(figure.note)] if noted else []))
    return shown


def as_json(figures: list[Figure]) -> str:
    """The output of `--json`; null for a figure that could not be measured."""
    values = {figure.name: _rounded(figure.value) for figure in figures}
    return json.dumps(values, indent=2) + "\n"


def _rounded(value: float | None) -> float | None:
    """Three decimals, or three digits of what would be 0 then."""
    return None if value is None else round(value, 3) or float(f"{value:.3g}")
