"""The comparison with peers: skipped peers, and the direction of the targets."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from scripts.benchmarks.figures import Figure, as_json, table
from scripts.benchmarks.flushes import Chain, FlushTimes
from scripts.benchmarks.peers.comparison import OURS, Samples, Targets, bounded, compared
from scripts.benchmarks.peers.environment import REQUIREMENTS, WEB, PeerUnavailable, interpreter
from scripts.stack.data import ROOT

TARGETS = Targets(done_at_most=2.5, burst_at_least=0.4)
TIMES = FlushTimes(objects=[0.005] * 10, commits=[0.003] * 10, round_trips=[0.0001] * 10)
CHAIN = Chain(objects=1, commits=2)


def printed(figures: list[Figure]) -> str:
    console = Console(file=StringIO(), width=80)
    console.print(table("bench", figures))
    return console.file.getvalue()


def test_ours_is_compared_with_the_median_of_a_peers_rounds():
    samples = Samples(
        "kept in memory" + ", long" * 30,
        CHAIN,
        dones_ms=[9.0, 10.0, 30.0],
        bursts=[90.0, 200.0, 250.0],
    )
    slow = compared("peer", samples, 26.0, 79.0, TARGETS, TIMES)
    quick = compared("peer", samples, 25.0, 80.0, TARGETS, TIMES)
    assert json.loads(as_json(quick)) == {
        "peer_done_p50_ms": 10.0,
        "peer_done_bound_ms": 11.3,
        "peer_burst_jobs_per_s": 200.0,
        "done_p50_over_peer": 2.5,
        "burst_over_peer": 0.4,
    }
    assert [figure.verdict for figure in quick[3:]] == ["met", "met"]
    assert [figure.verdict for figure in slow[3:]] == ["MISSED", "MISSED"]
    assert "kept in memory" in printed(quick)
    assert "peer_burst_jobs_per_s" in printed(quick)  # not cut, even next to a long note


def test_a_skipped_peer_has_null_figures_no_verdict_and_a_reason():
    # Its earlier rounds do not count: fewer of them would be compared with all of ours.
    samples = Samples(
        "kept in memory", CHAIN, dones_ms=[9.0], bursts=[90.0], skipped="no ray[serve]"
    )
    figures = compared("peer", samples, 26.0, 79.0, TARGETS, TIMES)
    measured = {name: value for name, value in json.loads(as_json(figures)).items() if value}
    assert measured == {"peer_done_bound_ms": 11.3}
    assert {figure.verdict for figure in figures} == {""}
    assert "no ray[serve]" in printed(figures)


def test_the_bound_is_every_flush_and_a_round_trip_for_each():
    assert TIMES.bound_ms(OURS) == pytest.approx(2 * 5 + 2 * 3 + 4 * 0.1)
    figures = {figure.name: figure for figure in bounded(TIMES, 16.4 * 1.3)}
    assert figures["done_bound_ms"].value == pytest.approx(16.4)
    assert figures["done_p50_over_bound"].verdict == "met"
    assert bounded(TIMES, 16.4 * 1.31)[-1].verdict == "MISSED"


def test_a_few_stalls_and_a_disk_of_two_speeds_do_not_decide_the_bound():
    stalls = FlushTimes(objects=[0.002] * 9 + [0.5], commits=[0.0] * 10, round_trips=[0.0] * 10)
    assert stalls.object_ms == pytest.approx(2)
    halves = FlushTimes(objects=[0.001, 0.005] * 10)
    assert halves.object_ms == pytest.approx(3)


def test_flush_times_are_of_the_directory_and_leave_nothing_in_it(tmp_path: Path):
    times = FlushTimes()
    times.measure(tmp_path)
    assert min(*times.objects, *times.commits, *times.round_trips) > 0
    assert list(tmp_path.iterdir()) == []


def test_peers_use_our_versions_of_the_libraries_that_we_use():
    ours = dict(
        line.lower().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    names = {pin.split("==")[0].split("[")[0]: pin.split("==")[1] for pin in WEB}
    names["celery"] = REQUIREMENTS["plain"][0].split("==")[1]
    assert names == {name: ours[name] for name in names}


def test_an_environment_that_cannot_be_created_is_reported_in_a_sentence(tmp_path: Path):
    (tmp_path / "peers").write_text("a file where the folder should be")
    with pytest.raises(PeerUnavailable, match=r"peers/bentoml cannot be created: .*\.$"):
        interpreter("bentoml", tmp_path / "peers")
