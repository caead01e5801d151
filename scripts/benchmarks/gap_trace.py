"""The steps of a hand-over, from a worker's announcement to its next render, as Redis sees them."""

import re
import threading
from collections.abc import Sequence
from statistics import median
from types import TracebackType
from typing import Any, Protocol, Self

import redis

MESSAGE = re.compile(r'"id": "([0-9a-f-]{36}):(\d+)"')
CHANGED = "changed"  # what a worker publishes on a job's channel when its row has changed


class Rendered(Protocol):
    """A render: see gap.Span."""

    @property
    def worker(self) -> str: ...
    @property
    def job_id(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def stages(self) -> dict[str, float]: ...


class Trace:
    """Records every Redis command while it is open. MONITOR itself costs a few per cent."""

    def __init__(self, url: str):
        self._client = redis.Redis.from_url(url)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._listening = threading.Event()
        self._ended = False
        self._commands: list[tuple[float, list[str], bool]] = []  # when, words, from a script

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self._client.ping()  # one more command wakes the listener
        self._thread.join(10)

    def parts(self, renders: Sequence[Rendered]) -> dict[str, float]:
        """Medians in seconds, in the order of a hand-over, then of a delivery.

        Raises RuntimeError if no job's commands were seen from its message to its end.
        """
        seen, claims = self._by_job(), self._claims()
        announced = self._announcements()
        found: dict[str, list[float]] = {}

        def note(name: str, seconds: float | None) -> None:
            if seconds is not None:
                found.setdefault(name, []).append(seconds)

        for render in renders:
            at = seen.get(render.job_id, {})
            if {"published", "begun", "ended"} - at.keys():
                continue
            claimed = claims.get(render.token)
            before = [when for when in announced.get(render.worker, []) if when <= at["published"]]
            if claimed is not None and before:
                note("announce_to_claim", claimed - before[-1])
                note("place", at["published"] - claimed)
            note("take_and_begin", at["begun"] - at["published"])
            for stage in ("fetch", "prepare", "wait", "encode", "sign", "upload"):
                note(stage, render.stages.get(stage))
            after = sum(
                render.stages.get(stage, 0.0)
                for stage in ("queue", "encode", "check", "sign", "upload")
            )
            note("finish", at["ended"] - render.end - after)
            later = [when for when in announced.get(render.worker, []) if when >= render.end]
            if later and later[0] >= at["ended"]:
                note("acknowledge", later[0] - at["ended"])
        if not found:
            raise RuntimeError("Redis showed no job from its message to its end.")
        return {name: median(values) for name, values in found.items()}

    def _listen(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self._listening.set()
            for command in monitor.listen():
                self._record(command)
                if self._ended:
                    return

    def _record(self, command: dict[str, Any]) -> None:
        words = command["command"].split(" ", 3)
        self._commands.append((command["time"], words, command["client_type"] == "lua"))

    def _by_job(self) -> dict[str, dict[str, float]]:
        """When each job was published, begun, and had ended. That it is taken leaves no command."""
        seen: dict[str, dict[str, float]] = {}
        for when, words, _ in self._commands:
            name, line = words[0].upper(), " ".join(words)
            if name == "LPUSH" and (match := MESSAGE.search(line)):
                seen.setdefault(match[1], {}).setdefault("published", when)
            elif name == "PUBLISH" and words[-1] == CHANGED:
                at = seen.setdefault(words[1].rpartition(":")[2], {})
                at["ended" if "begun" in at else "begun"] = when
        return seen

    def _claims(self) -> dict[str, float]:
        """When each token was granted."""
        return {
            words[3]: when
            for when, words, scripted in self._commands
            if scripted and words[0].upper() == "ZADD" and words[1].endswith(":claims")
        }

    def _announcements(self) -> dict[str, list[float]]:
        """When each worker became idle; not the renewals of an entry."""
        idle: dict[str, list[float]] = {}
        entered: set[str] = set()
        for when, words, scripted in self._commands:
            name = words[0].upper()
            if len(words) < 3 or not words[1].endswith(":idle"):
                continue
            if name == "ZREM":
                entered.discard(words[2])
            elif scripted and name == "ZADD" and len(words) == 4 and words[3] not in entered:
                entered.add(words[3])
                idle.setdefault(words[3], []).append(when)
        return idle
