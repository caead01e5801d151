"""Operators' decisions about traffic: drains, caps, the pinned table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.unreadable import UNREADABLE, count


@dataclass(frozen=True)
class Controls:
    """Empty without decisions. `caps`: how many workers of a region may be busy."""

    drained: frozenset[str] = frozenset()
    caps: Mapping[str, int] = field(default_factory=dict)
    drained_workers: frozenset[str] = frozenset()
    pinned: bool = False  # the shares in force stay, whatever the load

    def to_json(self) -> str:
        return json.dumps(
            {
                "drained": sorted(self.drained),
                "caps": dict(self.caps),
                "drained_workers": sorted(self.drained_workers),
                "pinned": self.pinned,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Controls":
        """Raises ValueError if this is not what `to_json` makes."""
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(
                frozenset(map(str, raw["drained"])),
                {str(name): count(cap) for name, cap in raw["caps"].items()},
                frozenset(map(str, raw["drained_workers"])),
                bool(raw["pinned"]),
            )
        except UNREADABLE as error:
            raise ValueError("This is no record of controls.") from error
