"""The lease keeper: when it renews, when it stops the work, when it ends the process."""

from threading import Event
from time import monotonic, sleep

import pytest

from app.domain.errors import Canceled, DatabaseUnavailable, Superseded
from workers.gpu import lease_keeper
from workers.gpu.lease_keeper import LeaseKeeper


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease_keeper, "RENEW_S", 0.03)


def keep(renew, stalled=None, *, stall_limit_s=0.2, attempt_limit_s=60.0):
    return LeaseKeeper(
        renew,
        stall_limit_s=stall_limit_s,
        attempt_limit_s=attempt_limit_s,
        on_stall=stalled or (lambda reason: pytest.fail(reason)),
    )


def work(keeper, seconds):
    """Advance for a while; the keeper's exceptions propagate."""
    until = monotonic() + seconds
    step = 0
    while monotonic() < until:
        step += 1
        keeper.advance(step)
        sleep(0.01)


def test_the_lease_is_renewed_with_the_step_while_work_advances():
    steps = []
    with keep(lambda step: steps.append(step) or True) as keeper:
        work(keeper, 0.5)
    assert len(steps) >= 3 and steps == sorted(steps) and steps[-1] > 1


@pytest.mark.parametrize(("answer", "error"), [(False, Canceled), (None, Superseded)])
def test_a_stop_reply_stops_the_next_step(answer, error):
    with keep(lambda step: answer) as keeper, pytest.raises(error):
        work(keeper, 2.0)


def test_an_unreachable_database_stops_nothing():
    def renew(step):
        raise DatabaseUnavailable("away")

    with keep(renew) as keeper:
        work(keeper, 0.4)


def test_superseded_is_not_reported_as_canceled():
    with keep(lambda step: None) as keeper:
        sleep(0.15)
        keeper.cancel()
        with pytest.raises(Superseded):
            keeper.advance()


@pytest.mark.parametrize(
    ("limits", "word"),
    [({"stall_limit_s": 0.1}, "progress"), ({"attempt_limit_s": 0.1}, "attempt")],
)
def test_a_stall_and_the_attempt_limit_end_the_process(limits, word):
    reasons, ended = [], Event()

    def on_stall(reason):
        reasons.append(reason)
        ended.set()

    with keep(lambda step: True, on_stall, **{"stall_limit_s": 5.0} | limits):
        assert ended.wait(4.0)
    assert len(reasons) == 1 and word in reasons[0]


def test_nothing_is_renewed_after_the_end():
    steps = []
    with keep(lambda step: steps.append(step) or True) as keeper:
        work(keeper, 0.2)
    count = len(steps)
    sleep(0.2)
    assert len(steps) == count


def test_waiting_for_the_database_is_not_a_stall_and_stops_nothing():
    with keep(lambda step: None, stall_limit_s=0.1) as keeper:
        until = monotonic() + 0.5
        while monotonic() < until:
            keeper.waiting()
            sleep(0.01)
        with pytest.raises(Superseded):
            keeper.advance()
