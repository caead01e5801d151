"""Full-jitter backoff."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.backoff import PROBE_CAP_S, RETRY_CAP_S, probe_delay, retry_delay

draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10**6), draws)
def test_a_probe_never_waits_longer_than_its_cap(refusals, draw):
    assert 0 <= probe_delay(refusals, draw) < PROBE_CAP_S


@given(st.integers(1, 10**6), draws)
def test_a_retry_never_waits_longer_than_its_cap(begun, draw):
    assert 0 <= retry_delay(begun, draw) < RETRY_CAP_S


def test_the_ceiling_doubles_until_the_cap():
    ceilings = [probe_delay(n, 0.999999) for n in range(1, 8)]
    assert [round(c, 2) for c in ceilings] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_full_jitter_may_wait_nothing_at_all():
    assert probe_delay(10, 0.0) == 0.0
