"""What operators see and do: every dashboard has data, every alert comes and goes with its fault,
and every command of the runbook works.
"""

import json
import re
import signal
import time
from contextlib import suppress
from uuid import UUID

import pytest
import redis

from app.domain.routing.topology import Pool
from app.store import keys
from tests.support import documents, junk, runbook, services
from tests.support.prometheus import alert_names, wait_for, watch
from tests.support.site import HOME, OTHER
from tests.support.site import site as make_site

pytestmark = pytest.mark.timeout(600)

# Alerts with a threshold in seconds, or in what takes long to pile up, get a lower one.
THRESHOLDS = {
    "(stillmotion_cluster_age_seconds) > 30": "(stillmotion_cluster_age_seconds) > 8",
    '{priority!="2"}) > 120': '{priority!="2"}) > 4',
    "(stillmotion_report_age_seconds) > 60": "(stillmotion_report_age_seconds) > 6",
    "(stillmotion_oldest_webhook_seconds) > 60": "(stillmotion_oldest_webhook_seconds) > 2",
    "_timestamp_seconds[1d])) > 3600": "_timestamp_seconds[1d])) > 20",
    "(stillmotion_database_xmin_age) > 1000000": "(stillmotion_database_xmin_age) > 400",
}
FIRES_S, CLEARS_S = 90.0, 90.0


@pytest.fixture(scope="module")
def site(session_settings, _shared_store, tmp_path_factory):
    services.empty(_shared_store)
    with redis.Redis.from_url(session_settings.redis_url) as client:
        client.flushall()
    directory = tmp_path_factory.mktemp("site")
    with (
        watch(directory / "watch", THRESHOLDS) as watching,
        make_site(session_settings, _shared_store, directory, watching) as found,
    ):
        yield found


def dashboards():
    for path in sorted((services.ROOT / "infra/grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_every_panel_of_every_dashboard_has_data(site):
    expected = list(dashboards())
    assert len(expected) > 50

    def empty():
        found = []
        for title, expr in expected:
            expr = expr.replace("$__rate_interval", "30s")
            expr = re.sub(r"\[1[hd]\]", "[60s]", expr)
            values = [float(each["value"][1]) for each in site.watch.query(expr)]
            if not any(value == value for value in values):  # not NaN
                found.append(f"{title}: {expr}")
        return found

    with suppress(AssertionError):
        wait_for(lambda: not empty(), 60, "panels without data")
    assert empty() == []


@pytest.fixture
def variables(site, _shared_store, tmp_path):
    """What the runbook's commands ask for."""
    with _shared_store.begin() as tx:
        key_id, _ = keys.create(tx, "leaked")
    job_id = site.submit().json()["id"]
    wait_for(
        lambda: site.fleet.read(UUID(job_id)).state == "succeeded", 60, "the job has not ended"
    )
    environment = services.environment(site.settings)
    return environment | {
        "STILLMOTION_SERVER": site.settings.public_url,
        "STILLMOTION_API_KEY": site.admin_key,
        "DATABASE_URL": site.direct_url,
        "PROMETHEUS": site.watch.url,
        "ALERTMANAGER": site.watch.alertmanager_url,
        "API": f"http://127.0.0.1:{site.port('api')}",
        "WORKER": f"http://127.0.0.1:{site.port('gpu-us-east-1')}",
        "REGION": OTHER,
        "JOB_ID": job_id,
        "KEY_ID": key_id,
        "LOGS": site.directory,
    }


def test_every_command_of_the_runbook_works(site, variables):
    for heading, commands in runbook.blocks().items():
        if heading == runbook.RESTORE:
            continue
        for command in commands:
            runbook.play(command, variables)
    assert documents.indented_blocks(runbook.RUNBOOK) == []


FAULTS = {}


def fault(*alerts):
    """The alerts that a fault of this module must raise, and clear when it ends."""

    def add(body):
        FAULTS[body.__name__] = (alerts, body)
        return body

    return add


# First: other faults raise these alerts, too, and while one alert silences another, the receiver
# does not hear that the silenced one has ended.
@fault("AttemptsLost", "RegionWithoutWorkers", "JobsLeaveHome", "JobsStuck", "JobsLate")
def a_region_loses_its_workers(site):
    worker = site.running["gpu-us-east-1"]
    strict = [site.orphan(policy="strict", priority=0) for _ in range(12)]
    site.fleet.wait(strict[0], "processing", "succeeded")
    worker.kill()
    for alert in ("JobsStuck", "JobsLeaveHome"):
        until_firing(site, alert, lambda: site.orphan(policy="strict", priority=1))
    site.start("gpu-us-east-1")
    yield


@fault("SubmitErrors")
def storage_is_away(site):
    site.storage.away()
    yield
    site.storage.back()


@fault("ApiDown", "ProcessDown")
def the_api_hangs(site):
    site.signal_api(signal.SIGSTOP)
    yield
    site.signal_api(signal.SIGCONT)


@fault("NoLeader")
def the_dispatcher_is_gone(site):
    site.running["dispatcher-1"].kill()
    yield
    site.start("dispatcher-1")


@fault("DatabaseAway")
def the_database_is_away(site):
    site.database.refuse()
    yield
    site.database.heal()


@fault("RegionSilent")
def a_region_s_redis_is_away(site):
    site.redis.refuse()
    yield
    site.redis.heal()


@fault("WebhooksStopped", "SweepOverdue")
def no_cpu_worker_runs(site):
    site.running["cpu"].kill()
    yield
    site.start("cpu")


@fault("WebhooksFail", "DataUnreadable", "SnapshotHeld", "ClipsUnsigned", "AttemptsFail")
def things_that_do_not_disturb_each_other(site):
    site.receiver.answers["/hook"] = [(500, {})]
    site.expiring_worker(valid_s=12.0)
    with site.connect() as old:
        old.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.commit()
        old.execute("SELECT txid_current_snapshot()")  # holds its snapshot from here on
        with site.connect() as burning:
            burning.autocommit = True
            for _ in range(600):
                burning.execute("SELECT txid_current()")
        junk.publish_all(site.settings.redis_url, Pool(HOME, "noop").queue)
        until_firing(site, "AttemptsFail", lambda: site.orphan(input_key="inputs/none.jpg"))
        yield
    site.receiver.answers["/hook"] = [(204, {})]
    site.running["gpu-eu-west-unsigned"].kill()


@fault("SubmitsShed")
def every_region_is_drained(site):
    for region in (HOME, OTHER):
        site.command("regions", "drain", region)
    yield
    for region in (HOME, OTHER):
        site.command("regions", "undrain", region)


@fault("SubmitsSlow")
def a_table_is_locked(site):
    def hold():
        with site.connect() as connection:
            connection.execute("LOCK TABLE jobs IN EXCLUSIVE MODE")
            time.sleep(2.6)

    until_firing(site, "SubmitsSlow", hold)
    yield


def until_firing(site, alert, provoke):
    """Do it again and again until Prometheus has the alert: its share grows with each."""
    stop = time.monotonic() + FIRES_S
    while alert not in site.watch.firing() and time.monotonic() < stop:
        provoke()
        time.sleep(0.2)


@pytest.mark.parametrize("name", FAULTS)
def test_an_alert_fires_at_the_fault_and_clears_after_it(site, name):
    alerts, body = FAULTS[name]
    notifications = site.watch.notifications
    # What another fault has raised may still be on its way out, or in.
    wait_for(lambda: not site.raised(*alerts), CLEARS_S, "alerts of another fault stay")
    before = {alert: len(notifications.states(alert)) for alert in alerts}

    def new(alert):
        return notifications.states(alert)[before[alert] :]

    # A leader that has just begun has counted nothing yet.
    wait_for(lambda: site.watch.query("stillmotion_cluster_age_seconds < 7"), 30, "nobody leads")
    steps = body(site)
    next(steps)
    try:
        for alert in alerts:
            wait_for(lambda a=alert: "firing" in new(a), FIRES_S, f"{alert} does not fire")
    finally:
        next(steps, None)
    for alert in alerts:
        wait_for(lambda a=alert: new(a)[-1:] == ["resolved"], CLEARS_S, f"{alert} does not clear")


def test_every_alert_has_its_fault():
    covered = [alert for alerts, _ in FAULTS.values() for alert in alerts]
    assert sorted(covered) == sorted(alert_names())
