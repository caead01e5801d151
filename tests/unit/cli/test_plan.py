"""`stillmotion plan`: output and exit statuses."""

import json

import pytest

from stillmotion.cli import ExitStatus, run

REGIONS = """
[[region]]
name = "us-east"
rtt_ms = {us-west = 60}
[[region]]
name = "us-west"
rtt_ms = {us-east = 60}
"""
PEAKS = ["--peak", "us-east=12.5", "--peak", "us-west=4", "--service", "4"]


@pytest.fixture
def regions(tmp_path) -> str:
    path = tmp_path / "regions.toml"
    path.write_text(REGIONS)
    return str(path)


def test_a_plan_is_a_table(regions, capsys):
    assert run(["plan", regions, *PEAKS]) == ExitStatus.OK
    assert "us-east" in capsys.readouterr().out


def test_json_holds_the_same_plan(regions, capsys):
    run(["plan", regions, *PEAKS, "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert plan["gpus"] == sum(region["gpus"] for region in plan["regions"])


def test_json_says_where_demand_would_overflow(regions, capsys):
    run(["plan", regions, *PEAKS, "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert {(f["home"], f["target"]) for f in plan["overflow"]} == {
        ("us-east", "us-west"),
        ("us-west", "us-east"),
    }


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--peak", "us-east=x", "--service", "4"], ExitStatus.USAGE, "not like us-east=12.5"),
        (["--peak", "us-east=1", "--service", "4"], ExitStatus.USAGE, "does not mention region"),
        ([*PEAKS, "--peak", "us-east=1"], ExitStatus.USAGE, "given twice"),
        ([*PEAKS, "--peak", "zz=1"], ExitStatus.USAGE, "unknown region 'zz'"),
        ([*PEAKS, "--service", "0"], ExitStatus.USAGE, "service time"),
        ([*PEAKS, "--max-rtt", "10"], ExitStatus.NO_PLAN, "No other region"),
    ],
)
def test_bad_input_is_one_sentence(regions, capsys, arguments, status, sentence):
    assert run(["plan", regions, *arguments]) == status
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_an_invalid_regions_file_is_a_configuration_error(tmp_path, capsys):
    (tmp_path / "r.toml").write_text('[[region]]\nname = "aa"\nrtt_ms = {zz = 3}\n')
    assert run(["plan", str(tmp_path / "r.toml"), *PEAKS]) == ExitStatus.CONFIG
    assert "unknown neighbour 'zz'" in capsys.readouterr().err
