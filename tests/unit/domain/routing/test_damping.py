"""From one table to the next."""

from dataclasses import replace

import pytest

from app.domain.routing.damping import MINIMUM_CHANGE, next_table, smooth
from app.domain.routing.load import Load, RegionLoad
from app.domain.routing.topology import Region, Topology

TOPOLOGY = Topology(
    [
        Region("aa", {"bb": 10, "cc": 20}),
        Region("bb", {"aa": 10, "cc": 20}),
        Region("cc", {"aa": 20, "bb": 20}),
    ]
)


def load_of(a: float, b: float = 0.3, c: float = 0.3, **ready: int) -> Load:
    """Demand as parts of the capacity of 400 workers each."""
    return Load(
        {
            name: RegionLoad(ready.get(name, 400), part * 100.0, 4.0)
            for name, part in (("aa", a), ("bb", b), ("cc", c))
        }
    )


def after(*loads: Load):
    table = None
    for n, load in enumerate(loads):
        table = next_table(table, load, TOPOLOGY, 10.0 * n)
    return table


def test_noise_within_the_band_changes_nothing():
    assert not after(load_of(0.95), load_of(0.955)).changed


def test_a_small_overload_beyond_the_band_is_shed():
    assert after(load_of(0.92), load_of(0.96)).shares["aa"]["aa"] < 1.0


def test_a_change_goes_half_way():
    whole = 1.0 - after(load_of(0.98)).shares["aa"]["aa"]
    assert 1.0 - after(load_of(0.92), load_of(0.98)).shares["aa"]["aa"] == pytest.approx(whole / 2)


def test_demand_comes_home_only_well_below_the_ceiling():
    assert not after(load_of(0.97), load_of(0.93)).changed


def test_demand_comes_home_when_its_region_has_room():
    assert (
        after(load_of(0.97), load_of(0.80)).shares["aa"]["aa"]
        > after(load_of(0.97)).shares["aa"]["aa"]
    )


def test_an_outage_is_not_damped():
    table = after(load_of(0.5), load_of(0.5, aa=0))
    assert table.shares["aa"].get("aa", 0.0) == 0.0


def test_an_outage_is_not_damped_when_all_regions_are_overloaded():
    table = after(load_of(0.9, 0.9, 0.9), load_of(0.9, 0.9, 0.9, aa=0))
    assert (table.overload, table.shares["aa"].get("aa", 0.0)) == (True, 0.0)


def test_a_target_that_dies_loses_its_shares_at_once():
    table = after(load_of(1.0), load_of(1.0, bb=0))
    assert "bb" not in table.shares["aa"]


def test_a_region_past_all_capacity_is_not_damped():
    assert after(load_of(0.9), load_of(1.2)).load["aa"] <= 0.92 + 1e-6


def test_every_table_has_a_newer_version():
    assert after(load_of(0.5), load_of(0.5), load_of(0.5)).version == 3


def test_changes_below_the_minimum_are_noise():
    first, then = after(load_of(0.95)), after(load_of(0.95), load_of(0.95 + 0.2 * MINIMUM_CHANGE))
    assert replace(then, version=1).shares == first.shares


def test_rising_demand_is_followed_sooner_than_falling():
    up = smooth({"aa": 10.0}, {"aa": 20.0}, 10.0)["aa"] - 10.0
    down = 20.0 - smooth({"aa": 20.0}, {"aa": 10.0}, 10.0)["aa"]
    assert up > down
