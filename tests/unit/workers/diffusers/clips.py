"""Clips of toys, as their engine renders them."""

import numpy as np


def ignore(_step):
    pass


def frames_of(engine, order, on_step=ignore):
    return np.stack(engine.render(order, on_step).frames)
