"""The hook for a content check: an entry point of the operator's own, off by default.

A package declares, in its `pyproject.toml`,

    [project.entry-points."stillmotion.safety"]
    ours = "our_package:Check"

and SAFETY_CHECK=ours makes the API ask it about every prompt and picture before a job is accepted,
and every worker about a clip's frames before it is uploaded. A check that breaks rejects nothing
and lets nothing through: the request is answered 503, the attempt fails as transient.
"""

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

import structlog

from app.config.settings import ConfigError
from app.domain.errors import BadRequest, Permanent, Transient
from stillmotion.errors import StillmotionError

log = structlog.get_logger(__name__)

GROUP = "stillmotion.safety"
CODE = "content_rejected"

T = TypeVar("T")


class Check(Protocol):
    """What an entry point makes when it is called without arguments. Threads share it.

    Every method returns None, or why it rejects; that goes to the log and not to the client.
    """

    def prompt(self, text: str) -> str | None: ...

    def picture(self, jpeg: bytes) -> str | None: ...

    def frames(self, frames: Iterable[Any]) -> str | None:
        """`frames`: the clip's, as (H, W, 3) uint8 arrays, RGB."""


class Safety:
    """A check with what the service makes of its verdicts."""

    def __init__(self, check: Check):
        self._check = check

    def refuse_order(self, prompt: str, jpeg: bytes, picture_pointer: str) -> None:
        """Raises BadRequest (content_rejected, 422) and Transient.

        `picture_pointer`: to the field that the picture came in.
        """
        if prompt and (reason := _asked(self._check.prompt, prompt)) is not None:
            raise _rejected("prompt", "/prompt", reason)
        if jpeg and (reason := _asked(self._check.picture, jpeg)) is not None:
            raise _rejected("picture", picture_pointer, reason)

    def refuse_clip(self, frames: Iterable[Any]) -> None:
        """Raises Permanent (content_rejected) and Transient."""
        if (reason := _asked(self._check.frames, frames)) is not None:
            log.warning("content_rejected", pointer="frames", reason=reason)
            raise Permanent("The clip was rejected by this service's content check.", code=CODE)


def load(name: str) -> Safety | None:
    """The check of this name; None for no name. Raises ConfigError."""
    if not name:
        return None
    found = list(entry_points(group=GROUP, name=name))
    if len(found) != 1:
        raise ConfigError(f"SAFETY_CHECK {name!r} is not one entry point of {GROUP}.")
    try:
        return Safety(found[0].load()())
    except Exception as error:  # whatever a stranger's package raises
        raise ConfigError(f"SAFETY_CHECK {name!r} cannot be loaded: {error}.") from error


def _rejected(name: str, pointer: str, reason: str) -> BadRequest:
    log.warning("content_rejected", pointer=pointer, reason=reason)
    detail = f"The {name} was rejected by this service's content check."
    return BadRequest(CODE, detail, status=422, pointer=pointer)


def _asked(ask: Callable[[T], str | None], what: T) -> str | None:
    try:
        return ask(what)
    except StillmotionError:
        raise  # the frames' own: the job was canceled meanwhile, or is another attempt's
    except Exception as error:
        log.exception("content_check_failed")
        raise Transient("Content cannot be checked now.", code="safety_unavailable") from error
