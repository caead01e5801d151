"""During an upgrade two releases read each other's JSON in Redis.

`release_0_1_0` has what the last release writes, byte for byte. Add a folder for each release.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.broker.traffic import RegionReport, Totals
from app.domain.routing.controls import Controls
from app.domain.routing.load import Report
from app.domain.routing.table import Table

LAST = Path(__file__).parent / "release_0_1_0"
# What the bytes of every folder say.
SAYS = {
    "table": Table(
        version=412,
        created_at=1764100000.25,
        shares={"us-east": {"us-east": 0.9, "eu-west": 0.1}, "eu-west": {"eu-west": 1.0}},
        reach={"us-east": 1, "eu-west": 0},
        ceilings={"us-east": 0.85, "eu-west": 0.8},
        load={"us-east": 0.84, "eu-west": 0.5},
        ready={"us-east": 40, "eu-west": 20},
        spare={"us-east": 2, "eu-west": 6},
        demand=12.5,
        gap_points=0.4,
    ),
    "controls": Controls(
        frozenset({"eu-west"}),
        {"us-east": 40},
        frozenset({"gpu-us-east-1a2b3c4d@host"}),
        pinned=True,
    ),
    "report": RegionReport(
        Report("us-east", 7, 1764100000.5, 40, 31, 3, 9.5, 4.2, 0.5),
        Totals(123456, 518400000, 17),
        measured=True,
        classes={"1": 9.0, "2": 0.5},
    ),
}
# Objects whose keys are names of fields, not of regions or classes.
FIELDS = {"table": [()], "controls": [()], "report": [(), ("report",), ("totals",)]}

each_kind = pytest.mark.parametrize("kind", SAYS)


def fields(document, path):
    for name in path:
        document = document[name]
    return document


@each_kind
def test_the_last_releases_bytes_are_read(kind):
    assert type(SAYS[kind]).from_json((LAST / f"{kind}.json").read_text()) == SAYS[kind]


@each_kind
def test_the_last_release_can_read_what_this_one_writes(kind):
    """It refuses a field that it does not know and misses one that it knows."""
    before = json.loads((LAST / f"{kind}.json").read_text())
    now = json.loads(SAYS[kind].to_json())
    for path in FIELDS[kind]:
        assert fields(now, path).keys() == fields(before, path).keys(), path


@each_kind
def test_fields_of_the_next_release_are_ignored(kind):
    document = json.loads(SAYS[kind].to_json())
    for path in FIELDS[kind]:
        fields(document, path)["added_later"] = {"a": [1]}
    assert type(SAYS[kind]).from_json(json.dumps(document)) == SAYS[kind]


@pytest.mark.parametrize(
    ("kind", "name", "default"),
    [("table", "overload", False), ("table", "gap_points", None), ("table", "shed", 0.0)],
)
def test_a_field_that_an_older_release_did_not_have_gets_its_default(kind, name, default):
    document = json.loads(SAYS[kind].to_json())
    del document[name]
    assert Table.from_json(json.dumps(document)) == replace(SAYS[kind], **{name: default})


def test_a_counter_that_an_older_release_did_not_have_is_zero():
    document = json.loads(SAYS["report"].to_json())
    del document["totals"]["refused"]
    assert RegionReport.from_json(json.dumps(document)).totals == Totals(123456, 518400000, 0)
