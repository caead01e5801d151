"""A database that goes away, or whose answers are lost."""

from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from tests.support.fleet import ends
from tests.support.proxy import Proxy


@pytest.fixture
def proxy(settings):
    target = urlsplit(settings.database_url)
    proxy = Proxy((target.hostname, target.port))
    yield proxy
    proxy.close()


def through(proxy, settings):
    """The database's URL through the proxy."""
    port = urlsplit(settings.database_url).port
    return settings.database_url.replace(f":{port}/", f":{proxy.port}/")


def test_a_finish_whose_response_is_lost_counts_once(fleet, proxy, settings):
    """The commit held; the worker learns it from the row instead of rendering again."""
    fleet.dispatcher()
    worker = fleet.worker(database_url=through(proxy, settings)).wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    proxy.lose_answer_to(b"job.succeeded")
    job_id = fleet.submit(webhook_url="https://example.com/hook")
    job = fleet.wait(job_id, "succeeded")
    assert proxy.cuts == 1
    assert ends(job_id, worker, last="succeeded") == ["succeeded"]
    assert job.begun == 1 and fleet.objects.get(job.output_key)
    with fleet.store.autocommit() as conn:
        owed = conn.execute(
            text("SELECT count(*) FROM webhook_deliveries WHERE job_id = :id"), {"id": job_id}
        )
        assert owed.scalar_one() == 1


def test_a_begin_whose_response_is_lost_is_recovered(fleet, proxy, settings):
    """The worker asks again with the same lease token, and gets the attempt that it began."""
    fleet.dispatcher()
    worker = fleet.worker(database_url=through(proxy, settings)).wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    proxy.lose_answer_to(b"SET begun_at = now()")
    job_id = fleet.submit()
    job = fleet.wait(job_id, "succeeded", timeout_s=15)
    assert proxy.cuts == 1
    assert job.begun == 1
    assert ends(job_id, worker, last="succeeded") == ["succeeded"]
