"""The simulator: determinism, agreement with theory, outages, users, arms."""

from functools import partial

import numpy as np
import pytest

from app.domain.routing.capacity import erlang_c
from app.planning.arms import HomeOnly, Ours, Polling, RandomGlobal
from app.planning.arrivals import poisson, together
from app.planning.geography import known
from app.planning.outcome import Record
from app.planning.simulator import Outage, Scenario, Simulation

S = 4.0
TWO = known(2)


def scenario(rates=(2.0, 2.0), gpus=(16, 16), duration_s=200.0, **more) -> Scenario:
    rng = np.random.default_rng(3)
    arrivals = together(
        {name: poisson(r, duration_s, rng) for name, r in zip(TWO.names, rates, strict=True)}
    )
    return Scenario(
        TWO, dict(zip(TWO.names, gpus, strict=True)), arrivals, duration_s, service_s=S, **more
    )


def run(arm=Ours, **more) -> Record:
    return Simulation(scenario(**more), arm).run()


def test_a_seed_determines_a_run():
    assert run().waits == run().waits


def test_waits_agree_with_erlang_c():
    record = run(HomeOnly, rates=(3.2, 0.0), duration_s=4000.0, service_scv=1.0, patience_s=1e9)
    waited = np.mean([wait > 1e-9 for _, wait, _ in record.waits])
    assert waited == pytest.approx(erlang_c(16, 3.2 * S), abs=0.05)


def test_workers_are_as_busy_as_littles_law_says():
    record = run(rates=(2.0, 2.0), duration_s=1000.0)
    assert record.utilisation(100.0) == pytest.approx(2.0 * S / 16, abs=0.04)


def test_every_try_is_served_shed_or_unserved():
    record = run(rates=(6.0, 2.0))
    unserved = record.tries.sum() - record.tries_served.sum()
    waiting_at_end = unserved - record.unserved_users
    assert 0 <= waiting_at_end <= 16


def test_an_overloaded_home_overflows():
    assert run(rates=(4.5, 0.5)).in_region(50.0) < 0.95


def test_home_only_never_overflows():
    assert run(HomeOnly, rates=(4.5, 0.5)).in_region() == 1.0


def test_random_routing_sends_half_the_jobs_away():
    record = run(RandomGlobal, duration_s=500.0)
    assert record.in_region() == pytest.approx(0.5, abs=0.05)


def test_blind_polling_asks_busy_workers():
    record = run(Polling, rates=(3.2, 3.2))
    assert record.attempts_per_job(50.0) > 2.0


def test_backoff_reduces_attempts():
    patient = run(partial(Polling, backoff=True), rates=(3.2, 3.2))
    assert patient.attempts_per_job(50.0) < run(Polling, rates=(3.2, 3.2)).attempts_per_job(50.0)


def test_overload_is_shed_at_submit_and_not_by_waiting():
    record = run(rates=(8.0, 8.0))
    assert record.shed.sum() > 0.0
    assert record.wait_quantile(1.0) < 4.0


def test_a_dead_region_does_no_work():
    record = run(outages=[Outage(TWO.names[0], 50.0, 150.0)])
    assert record.busy_s[0, 51:149].sum() == 0.0


def test_jobs_of_a_dead_regions_workers_are_placed_again():
    sim = Simulation(scenario(outages=[Outage(TWO.names[0], 50.0)], duration_s=300.0), Ours)
    record = sim.run()
    assert record.lost > 0
    # No job is served twice: a lost one counts once.
    assert record.served.sum() <= record.users.sum()


def test_another_region_takes_over_from_a_dead_one():
    record = run(rates=(1.0, 1.0), outages=[Outage(TWO.names[0], 50.0, 150.0)])
    assert record.success(80.0, 150.0) >= 0.99


def test_no_table_is_made_while_the_controller_is_dead():
    sim = Simulation(scenario(controller_dead=(50.0, 150.0)), Ours)
    seen = []
    sim.at(149.0, lambda _: seen.append(sim.table.created_at))
    sim.run()
    assert seen[0] < 50.0


def test_refused_users_resubmit():
    record = run(rates=(8.0, 8.0), resubmits=2)
    assert record.tries.sum() > 1.1 * record.users.sum()


def test_a_try_whose_user_left_serves_no_one():
    # Users leave at once but their tries stay: workers are busy, users unserved.
    record = run(HomeOnly, rates=(8.0, 8.0), patience_s=2.0, deadline_s=100.0)
    assert record.utilisation(50.0) > 0.95
    assert record.success(50.0, 150.0) < 0.2


def test_a_router_makes_no_more_attempts_than_it_can():
    record = run(Polling, rates=(3.2, 3.2), router_per_s=10.0)
    assert record.attempts.sum() <= 10.0 * 200 + 1


def test_goodput_is_never_above_one():
    assert run(rates=(8.0, 8.0), resubmits=2).goodput(30.0).max() <= 1.0
