"""Loaders of public traces."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from app.planning.arrivals import burst, diurnal, poisson, replayed, stepped, together
from app.planning.traces import Rates, Requests, TraceError, azure, mooncake, read, servegen

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:05.9799600,3180,8
2023-11-16 18:17:04.4799600,110,27
"""
MOONCAKE = "timestamp_ms,input_length,output_length\n3000,6758,500\n3000,7322,490\n4500,1,7\n"


def tarred(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"mm/{name}-trace.csv")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_an_azure_trace_starts_at_zero_and_is_sorted(tmp_path):
    (tmp_path / "a.csv").write_text(AZURE)
    assert azure(tmp_path / "a.csv").times == pytest.approx([0.0, 0.5, 2.0])


def test_tokens_stay_with_their_request(tmp_path):
    (tmp_path / "a.csv").write_text(AZURE)
    assert azure(tmp_path / "a.csv").tokens.tolist() == [10, 27, 8]


def test_a_gzipped_trace_is_the_same(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(AZURE.encode()))
    assert len(azure(tmp_path / "a.csv.gz").times) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n", "line 1: the header"),
        (AZURE + "nonsense,1,2\n", "line 5: not a request"),
        (AZURE + "2023-11-16 18:17:03.9799600,1\n", "line 5: not a request"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "fewer than two"),
    ],
)
def test_an_invalid_azure_trace_is_refused_with_its_line(tmp_path, text, sentence):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(TraceError, match=sentence):
        azure(tmp_path / "a.csv")


def test_a_mooncake_trace_counts_milliseconds(tmp_path):
    (tmp_path / "m.csv").write_text(MOONCAKE)
    trace = mooncake(tmp_path / "m.csv")
    assert (trace.times.tolist(), trace.tokens.tolist()) == ([0.0, 0.0, 1.5], [500, 490, 7])


def test_a_trace_is_recognised_by_its_content(tmp_path):
    (tmp_path / "m.csv").write_text(MOONCAKE)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(AZURE.encode()))
    rates = tarred(tmp_path / "s.tar.gz", one="0,1,1\n600,2,1\n")
    assert len(read(tmp_path / "m.csv").times) == len(read(tmp_path / "a.csv.gz").times) == 3
    assert isinstance(read(tmp_path / "m.csv"), Requests)
    assert isinstance(read(rates), Rates)


def test_a_file_that_is_not_a_trace_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n")
    (tmp_path / "y.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(TraceError, match="line 1: the header"):
        read(tmp_path / "x.csv")
    with pytest.raises(TraceError, match="damaged"):
        read(tmp_path / "y.csv")


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(AZURE.encode())[:-20])
    with pytest.raises(TraceError, match="damaged"):
        azure(tmp_path / "a.csv.gz")


def test_servegen_rates_add_up_over_clients(tmp_path):
    path = tarred(tmp_path / "s.tar.gz", one="0,1.5,1,G,0,0\n600,2,1,G,0,0\n", two="600,1,,,0,0\n")
    rates = servegen(path)
    assert (rates.slot_s, rates.total.tolist()) == (600.0, [1.5, 3.0])


def test_a_negative_rate_is_refused_by_line(tmp_path):
    path = tarred(tmp_path / "s.tar.gz", one="0,1,1\n600,-2,1\n")
    with pytest.raises(TraceError, match="line 2"):
        servegen(path)


def test_a_file_that_is_not_a_tar_is_refused(tmp_path):
    (tmp_path / "s.tar").write_text("no tar")
    with pytest.raises(TraceError, match="not a tar"):
        servegen(tmp_path / "s.tar")


TRACES = Path(os.environ.get("STILLMOTION_TRACES", "../shared/traces"))


@pytest.mark.skipif(not TRACES.is_dir(), reason="no public traces here")
@pytest.mark.parametrize(("name", "count", "cv"), [("code", 8819, 13.2), ("conv", 19366, 1.09)])
def test_the_real_azure_traces_have_their_published_shape(name, count, cv):
    trace = azure(TRACES / f"AzureLLMInferenceTrace_{name}.csv.gz")
    assert len(trace.times) == count
    gaps = np.diff(trace.times)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.01)


@pytest.mark.skipif(not TRACES.is_dir(), reason="no public traces here")
def test_the_real_servegen_rates_span_a_day():
    rates = servegen(TRACES / "servegen_mm-image_rates.tar.gz")
    assert rates.per_s.shape == (35, 144)
    assert rates.total.max() == pytest.approx(13.29, abs=0.01)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_poisson_arrivals_come_at_their_rate():
    assert len(poisson(10.0, 1000.0, rng())) == pytest.approx(10_000, abs=400)


def test_a_burst_is_a_multiple_of_the_rate():
    times = burst(10.0, 300.0, rng(), start_s=100.0, length_s=100.0, factor=3.0)
    within = ((times >= 100) & (times < 200)).sum()
    assert within == pytest.approx(3000, abs=220)


def test_a_day_swings_around_its_mean():
    times = diurnal(5.0, 1000.0, rng(), swing=0.8, day_s=1000.0)
    first, second = (times < 500).sum(), (times >= 500).sum()
    assert first > 2 * second


def test_a_replayed_trace_keeps_its_bursts():
    clumped = np.sort(np.concatenate([np.linspace(0, 1, 500), np.linspace(50, 100, 500)]))
    times = replayed(clumped, 20.0, 100.0, rng())
    assert (times < 2.0).sum() == pytest.approx(1000, abs=130)


def test_a_replayed_trace_has_the_requested_rate():
    assert len(replayed(np.linspace(0, 50, 200), 20.0, 500.0, rng())) == pytest.approx(
        10_000, abs=400
    )


def test_stepped_rates_follow_their_slots():
    times = stepped(np.array([1.0, 9.0]), 100.0, 200.0, rng())
    assert (times < 100).sum() == pytest.approx(100, abs=40)
    assert (times >= 100).sum() == pytest.approx(900, abs=120)


def test_streams_are_merged_in_order_of_time():
    merged = together({"aa": np.array([1.0, 3.0]), "bb": np.array([2.0])})
    assert (merged.times.tolist(), merged.homes.tolist()) == ([1.0, 2.0, 3.0], [0, 1, 0])
