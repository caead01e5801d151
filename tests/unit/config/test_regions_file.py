"""Regions files: their settings, and the line of every error in one."""

import textwrap

import pytest

from app.config import regions_file
from app.config.regions_file import RegionsFileError
from app.domain.routing.topology import Rings
from stillmotion.cli import ExitStatus, run

PAIR = """\
[[region]]
name = "us-east"
rtt_ms = { eu-west = 80 }

[[region]]
name = "eu-west"
redis_url = "redis://:secret@eu.example:6379/0"
broker_url = "amqp://user:secret@eu.example"
[region.rtt_ms]
us-east = 80
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "regions.toml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_a_file_names_regions_with_their_services(write):
    topology = regions_file.read(write(PAIR))
    assert topology.names == ["us-east", "eu-west"]
    assert topology.rtt_ms("us-east", "eu-west") == 80
    assert topology["us-east"].redis_url == topology["us-east"].broker_url == ""
    assert topology["eu-west"].redis_url == "redis://:secret@eu.example:6379/0"
    assert topology["eu-west"].broker_url == "amqp://user:secret@eu.example"


def test_each_ring_setting_has_its_own_default(write):
    assert regions_file.read(write(PAIR)).rings == Rings()
    rings = regions_file.read(write(PAIR + "[rings]\nnear_ms = 90\nwiden = false\n")).rings
    assert rings == Rings(near_ms=90, widen=False)


THIRD = '[[region]]\nname = "us-west"\n'


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("", 1, "no region is configured"),
        ("[[region]\n", 1, "expected"),
        ('[[region]]\nname = "aa"\nname = "bb"\n', 3, "cannot overwrite a value"),
        ('\n\n[[region]]\nname = "aa', 4, "unterminated string"),
        (PAIR + "[regions]\n", 11, "unknown key 'regions'"),
        (PAIR.replace("broker_url", "brocker_url"), 8, "unknown key 'brocker_url'"),
        (PAIR.replace('name = "eu-west"', ""), 5, "the key 'name' is missing"),
        (PAIR.replace('"eu-west"', "7"), 6, "name must be a valid string"),
        (PAIR.replace("us-east = 80", 'us-east = "80"'), 10, "us-east must be a valid number"),
        (PAIR.replace("us-east = 80", "us-east = nan"), 10, "us-east must be a finite number"),
        (PAIR.replace("us-east = 80", "us-east = -1"), 10, "must be >= 0 ms"),
        (PAIR.replace("us-east = 80", "us-east = 81"), 10, "differ: 80 and 81 ms"),
        (PAIR.replace("us-east = 80", "us-east = 80\nzz = 3"), 11, "unknown neighbour 'zz'"),
        (PAIR.replace("us-east = 80", "us-east = 80\neu-west = 0"), 11, "names itself"),
        (PAIR.replace("us-east = 80", ""), 9, "is missing at 'eu-west'"),
        (PAIR.replace("rtt_ms = {", "# {"), 1, "is missing at 'us-east'"),
        (PAIR + PAIR, 12, "two regions share one name, 'us-east'"),
        (PAIR.replace('"us-east"', '"US"'), 2, "must be 2-32"),
        (PAIR.replace("redis://", "http://"), 7, "redis:// or rediss://"),
        (PAIR.replace(":6379", ":port"), 7, "redis:// or rediss://"),
        (PAIR.replace(":6379/0", "/zero"), 7, "database number"),
        (PAIR.replace("amqp://", "amqp:"), 8, "with a host"),
        (PAIR + "[rings]\nnear_ms = 60\nfar_ms = 50\n", 13, "near_ms <= far_ms"),
        (PAIR + "[rings]\nfar_up_to = 1.0\n", 12, "near_up_to <= far_up_to"),
    ],
)
def test_every_error_is_reported_with_its_line(write, text, line, sentence):
    path = write(text)
    with pytest.raises(RegionsFileError) as refused:
        regions_file.read(path)
    problem = refused.value.problems[0]
    assert problem.line == line and sentence in problem.sentence, problem
    assert str(problem).startswith(f"{path}:{line}: ") and str(problem).endswith(".")
    assert "secret" not in str(problem)


def test_a_multi_line_statement_is_reported_at_its_first_line(write):
    text = PAIR + '\n# far\n[[region]]\nname = """\n\nXX"""\n[rings]\n'
    with pytest.raises(RegionsFileError) as refused:
        regions_file.read(write(text))
    assert "must be 2-32" in str(next(p for p in refused.value.problems if p.line == 14))


def test_a_file_that_is_not_text_is_reported_with_its_line(tmp_path):
    path = tmp_path / "regions.toml"
    path.write_bytes(b"[[region]]\nname = '\xff'\n")
    with pytest.raises(RegionsFileError, match=r"regions.toml:2: is not UTF-8\."):
        regions_file.read(path)


def test_check_prints_the_regions_and_hides_secrets(write, capsys):
    assert run(["regions", "check", str(write(PAIR))]) == ExitStatus.OK
    printed = capsys.readouterr().out
    assert "eu.example:6379" in printed and "secret" not in printed


def test_check_prints_every_error(write, capsys):
    path = write(PAIR.replace("eu-west = 80", "eu-west = 80, zz = 1") + "[ring]\n" + THIRD)
    assert run(["regions", "check", str(path)]) == ExitStatus.CONFIG
    assert capsys.readouterr().err == f"{path}:11: unknown key 'ring'.\n"
    path = write(PAIR.replace("eu-west = 80", "eu-west = 80, zz = 1") + THIRD)
    assert run(["regions", "check", str(path)]) == ExitStatus.CONFIG
    lines = [line.split(":")[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["3", "3", "9"]


def test_check_without_a_file_is_a_usage_error(tmp_path, capsys):
    assert run(["regions", "check", str(tmp_path / "none.toml")]) == ExitStatus.USAGE
    assert "none.toml: No such file" in capsys.readouterr().err
