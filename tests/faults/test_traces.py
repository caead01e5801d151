"""One trace for each job, and logs that name it: from the client's header to the webhook."""

from collections import Counter

import httpx
import pytest

from app.config.settings import ConfigError
from app.tracing import check
from scripts.benchmarks.harness.storage import Storage
from tests.support import services
from tests.support.fleet import fleet as make_fleet
from tests.support.otlp import Collector

TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CLIENT_SPAN}-01"


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def storage(tmp_path):
    storage = Storage(tmp_path)
    yield storage
    storage.back()


@pytest.fixture
def config(change, collector, storage, receiver):
    return change(
        public_url=f"http://127.0.0.1:{services.free_port()}",
        objects_url=storage.url,
        outbound_allow=receiver.address,
        otel_exporter_otlp_endpoint=collector.url,
        served_profiles=("noop",),
    )


@pytest.fixture
def fleet(config, store, tmp_path):
    with make_fleet(config, store, tmp_path) as fleet:
        yield fleet


def submit(url, key, photo, receiver, **headers):
    return httpx.post(
        f"{url}/v1/jobs",
        headers={"Authorization": f"Bearer {key}", **headers},
        data={"model": "noop", "webhook_url": receiver.url("/hook")},
        files={"image": photo},
        timeout=20,
    )


def test_one_trace_from_the_client_to_the_webhook_with_a_retried_attempt(
    fleet, config, storage, collector, receiver, api_key, photo, tmp_path
):
    log = tmp_path / "api.log"
    with services.gunicorn(config, log) as url:
        processes = [fleet.dispatcher(), fleet.cpu_worker()]
        answer = submit(url, api_key, photo, receiver, traceparent=PARENT)
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        storage.away()  # the first attempt cannot read its picture
        processes.append(fleet.worker())
        services.wait_until(lambda: attempt_of(processes[-1]) == ["failed"], timeout_s=60)
        storage.back()
        [(headers, _, _)] = receiver.wait("/hook", timeout_s=60)
        assert headers["traceparent"].split("-")[1] == TRACE
        assert attempt_of(processes[-1]) == ["failed", "succeeded"]
        # They send every second, and the rest when they stop.
        services.wait_until(lambda: "webhook" in names(collector), timeout_s=20)
        services.wait_until(lambda: "finish" in names(collector), timeout_s=20)

    spans = collector.spans
    assert {span.trace for span in spans} == {TRACE}, "every span is of the client's trace"
    found = names(collector)
    assert found["attempt"] == found["place"] == found["fetch"] + 1 == 2
    for name in ("submit", "prepare picture", "store picture", "write job", "webhook"):
        assert found[name] == 1, name
    assert {"render", "upload", "finish"} <= found.keys()
    [root] = [span for span in spans if span.name == "submit"]
    assert root.parent == CLIENT_SPAN
    known = {CLIENT_SPAN, *(span.id for span in spans)}
    assert [span for span in spans if span.parent not in known] == []
    first, second = (span for span in spans if span.name == "attempt")
    assert (first.failed, first.attributes["outcome"]) == (True, "failed")
    assert (second.failed, second.attributes["outcome"]) == (False, "succeeded")
    assert first.attributes["job.fence"] < second.attributes["job.fence"]
    [webhook] = [span for span in spans if span.name == "webhook"]
    assert webhook.parent == root.id and headers["traceparent"].split("-")[2] == webhook.id
    assert {span.service for span in spans} == {
        f"stillmotion-{name}" for name in ("api", "dispatcher", "gpu-worker", "cpu-worker")
    }
    assert all(0 <= span.end_ns - span.start_ns < 120e9 for span in spans)

    lines = services.log_lines(log) + [line for each in processes for line in each.log]
    assert [line for line in lines if "raw" in line] == [], "every line is JSON"
    about = [line for line in lines if job_id in str(line) and line.get("event") != "request"]
    assert {line["event"] for line in about} >= {"job_placed", "attempt_failed", "webhook_tried"}
    for line in about:
        assert line["job_id"] == job_id, line
        assert line["trace_id"] == TRACE, line
        assert line["region"] == "us-east", line
        assert line["fence"] in (1, 2), line
    [request] = [line for line in lines if line.get("path") == "/v1/jobs"]
    assert (request["job_id"], request["trace_id"]) == (job_id, TRACE)


def test_a_lost_attempt_is_in_the_trace_though_its_worker_is_gone(fleet, collector):
    dispatcher = fleet.dispatcher()
    worker = fleet.worker(noop_step_s=2.0).wait_ready()
    job_id = fleet.submit(traceparent=PARENT)
    fleet.wait(job_id, "processing")
    worker.kill()
    fleet.worker().wait_ready()
    fleet.wait(job_id, "succeeded", timeout_s=60)
    services.wait_until(lambda: names(collector)["finish"] == 1, timeout_s=20)
    services.wait_until(lambda: names(collector)["take back"] == 1, timeout_s=20)
    [taken] = [span for span in collector.spans if span.name == "take back"]
    assert (taken.trace, taken.parent, taken.failed) == (TRACE, CLIENT_SPAN, True)
    [line] = [line for line in dispatcher.log if line.get("event") == "attempt_taken_back"]
    expected = {"job_id": str(job_id), "fence": 1, "region": "us-east", "trace_id": TRACE}
    assert expected.items() <= line.items()


def test_a_collector_that_is_away_costs_nothing_and_without_a_header_there_is_one_trace(
    config, store, receiver, api_key, photo, tmp_path
):
    config = config.model_copy(
        update={"otel_exporter_otlp_endpoint": f"http://127.0.0.1:{services.free_port()}"}
    )
    log = tmp_path / "api.log"
    with services.gunicorn(config, log) as url, make_fleet(config, store, tmp_path) as fleet:
        processes = [fleet.dispatcher(), fleet.cpu_worker(), fleet.worker().wait_ready()]
        job_id = submit(url, api_key, photo, receiver).json()["id"]
        [(headers, _, _)] = receiver.wait("/hook", timeout_s=60)
        trace = headers["traceparent"].split("-")[1]
        for process in processes:
            process.signal(15)
        assert [process.wait_exit(20) for process in processes] == [0, 0, 0]
    lines = services.log_lines(log) + [line for each in processes for line in each.log]
    assert [line for line in lines if "raw" in line] == [], "every line is JSON, to the last one"
    assert {line["trace_id"] for line in lines if line.get("job_id") == job_id} == {trace}


def test_an_endpoint_without_the_sdk_is_a_mistake_in_one_sentence(config, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match="install the extra `tracing`"):
        check(config)


def attempt_of(worker):
    return [line["outcome"] for line in worker.log if line.get("event") == "attempt_ended"]


def names(collector):
    return Counter(span.name for span in collector.spans)
