"""A whole deployment behind a PgBouncer that has fewer connections than it has threads."""

from tests.support import services
from tests.support.fleet import fleet as make_fleet


def test_jobs_flow_and_one_dispatcher_leads(pooled, store, tmp_path):
    with make_fleet(pooled, store, tmp_path) as fleet:
        dispatchers = [fleet.dispatcher(), fleet.dispatcher()]
        for _ in range(2):
            fleet.worker().wait_ready()
        ids = [fleet.submit() for _ in range(40)]
        for job_id in ids:
            assert fleet.wait(job_id, "succeeded").begun == 1
        services.wait_until(lambda: sum(led(each) for each in dispatchers) == 1)
        assert all(each.alive for each in dispatchers)
        for process in dispatchers:
            assert not [line for line in process.log if line.get("level") in ("error", "critical")]


def led(dispatcher):
    return any(line.get("event") == "lead_taken" for line in dispatcher.log)
