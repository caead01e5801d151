"""The comparison with peers: skipped peers, and the direction of the targets."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from scripts.benchmarks.figures import Figure, as_json, table
from scripts.benchmarks.peers.comparison import Samples, compared
from scripts.benchmarks.peers.environment import PeerUnavailable, interpreter


def printed(figures: list[Figure]) -> str:
    console = Console(file=StringIO(), width=80)
    console.print(table("bench", figures))
    return console.file.getvalue()


def test_ours_is_compared_with_the_median_of_a_peers_rounds():
    samples = Samples(
        "kept in memory" + ", long" * 30, dones_ms=[9.0, 10.0, 30.0], bursts=[90.0, 200.0, 250.0]
    )
    slow = compared("peer", samples, 26.0, 79.0, at_most=2.5, at_least=0.4)
    quick = compared("peer", samples, 25.0, 80.0, at_most=2.5, at_least=0.4)
    assert json.loads(as_json(quick)) == {
        "peer_done_p50_ms": 10.0,
        "peer_burst_jobs_per_s": 200.0,
        "done_p50_over_peer": 2.5,
        "burst_over_peer": 0.4,
    }
    assert [figure.verdict for figure in quick[2:]] == ["met", "met"]
    assert [figure.verdict for figure in slow[2:]] == ["MISSED", "MISSED"]
    assert "kept in memory" in printed(quick)
    assert "peer_burst_jobs_per_s" in printed(quick)  # not cut, even next to a long note


def test_a_skipped_peer_has_null_figures_no_verdict_and_a_reason():
    # Its earlier rounds do not count: fewer of them would be compared with all of ours.
    samples = Samples("kept in memory", dones_ms=[9.0], bursts=[90.0], skipped="no ray[serve]")
    figures = compared("peer", samples, 26.0, 79.0, at_most=2.5, at_least=0.4)
    assert set(json.loads(as_json(figures)).values()) == {None}
    assert {figure.verdict for figure in figures} == {""}
    assert "no ray[serve]" in printed(figures)


def test_an_environment_that_cannot_be_created_is_reported_in_a_sentence(tmp_path: Path):
    (tmp_path / "peers").write_text("a file where the folder should be")
    with pytest.raises(PeerUnavailable, match=r"peers/bentoml cannot be created: .*\.$"):
        interpreter("bentoml", tmp_path / "peers")
