"""What a benchmark returns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number; `at_most` or `at_least` is its target, if it has one."""

    name: str
    value: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g}" if self.at_least is not None else ""

    @property
    def verdict(self) -> str:
        if not self.target:
            return ""
        missed = (self.at_most is not None and self.value > self.at_most) or (
            self.at_least is not None and self.value < self.at_least
        )
        return "MISSED" if missed else "met"
