"""What tests of groups of processes have in common."""

from contextlib import contextmanager

from app.domain.errors import Canceled
from workers.engines.diffusers import engine as engine_module


def followers(engine):
    return [follower.pid for follower in engine._leader._followers]


class StopAt:
    """Cancels at a step, or at the first beat after it."""

    def __init__(self, step, beat=False):
        self.at, self.beat, self.told = step, beat, []

    def __call__(self, step):
        self.told.append(step)
        if (step is None and self.beat and self.at in self.told) or (
            step == self.at and not self.beat
        ):
            raise Canceled("stop")


@contextmanager
def as_floats(monkeypatch):
    """Yield a list that gets frames before they become bytes."""
    found = []
    original = engine_module.to_pixels

    def keep(frame):
        found.append(frame.clone())
        return original(frame)

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "to_pixels", keep)
        yield found
