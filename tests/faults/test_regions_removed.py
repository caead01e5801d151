"""A region that leaves the regions file while jobs wait for it."""

import pytest
from sqlalchemy import text

from tests.support import services
from tests.support.fleet import fleet as make_fleet


@pytest.fixture
def fleet(change, store, tmp_path):
    """A deployment whose regions file has lost eu-west; older jobs may still name it."""
    without = services.REGIONS.partition('[[region]]\nname = "eu-west"')[0]
    path = tmp_path / "two-regions.toml"
    path.write_text(without.replace(", eu-west = 80", "").replace(", eu-west = 140", ""))
    with make_fleet(change(regions_file=path), store, tmp_path) as fleet:
        yield fleet


def an_hour_ago(fleet, job_id):
    """Backdate the job; jobs younger than a minute are not moved to another region."""
    with fleet.store.begin() as tx:
        tx.execute(
            text("UPDATE jobs SET created_at = now() - interval '1 h' WHERE id = :id"),
            {"id": job_id},
        )


@pytest.mark.parametrize(
    "where",
    [{"home_region": "eu-west"}, {"home_region": "eu-west", "policy": "any"}],
    ids=["ring", "any"],
)
def test_jobs_of_a_removed_region_run_elsewhere(fleet, where):
    dispatcher = fleet.dispatcher()
    fleet.worker().wait_ready()
    job_id = fleet.submit(**where)
    an_hour_ago(fleet, job_id)
    assert fleet.wait(job_id, "succeeded", timeout_s=25).region == "us-east"
    assert dispatcher.alive


def test_a_retry_sent_to_a_removed_region_goes_home(fleet):
    dispatcher = fleet.dispatcher()
    job_id = fleet.submit()
    # Set by a dispatcher that still knew the region, after a failed attempt at home.
    with fleet.store.begin() as tx:
        tx.execute(text("UPDATE jobs SET next_region = 'eu-west' WHERE id = :id"), {"id": job_id})
    an_hour_ago(fleet, job_id)
    fleet.worker().wait_ready()
    assert fleet.wait(job_id, "succeeded", timeout_s=25).region == "us-east"
    assert dispatcher.alive


def test_a_strict_job_of_a_removed_region_harms_no_other(fleet):
    dispatcher = fleet.dispatcher()
    fleet.worker().wait_ready()
    bound = fleet.submit(home_region="eu-west", policy="strict")
    for _ in range(3):
        fleet.wait(fleet.submit(), "succeeded")
    assert fleet.read(bound).state == "queued"
    assert dispatcher.alive
