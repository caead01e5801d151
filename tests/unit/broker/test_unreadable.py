"""Whatever is found in Redis: read, or refused with the reader's own error, or dropped and counted.

Each reader gets the same oddities, alone and in every field of a sound document.
"""

import json
from contextlib import suppress
from uuid import uuid4

import pytest

from app.broker import dropped, progress
from app.broker.traffic import RegionReport
from app.domain.job.messages import DELIVER, RENDER, SWEEP, Unreadable, read_arguments
from app.domain.routing.controls import Controls
from app.domain.routing.load import ReportRefused, accept, fresh
from app.domain.routing.table import Table, TableRefused
from app.telemetry import API
from tests.support.deployment import report

ODD = [
    *(None, True, -1, 10**400, 0.5, float("inf"), float("nan")),
    *("", "x", "\ufffd", [], {}, [1], {"a": None}, [[]] * 9),
]
TEXTS = [*map(json.dumps, ODD), "", "{", "\ufffd", "[" * 100_000, '{"a":' * 50_000, "9" * 5000]
TABLE = Table(1, 1.0, {"a": {"a": 1.0}}, {"a": 1}, {"a": 0.8}, {"a": 0.5}, {"a": 9}, {"a": 1})
CONTROLS = Controls(frozenset({"a"}), {"a": 3}, frozenset({"w"}), pinned=True)


def documents(sound):
    """The sound document with each field, at any depth, replaced by each oddity or left out."""
    yield from TEXTS
    known = json.loads(sound)
    for path in list(_paths(known)):
        for odd in ODD:
            yield json.dumps(_with(known, path, odd))
        yield json.dumps(_with(known, path, ...))


def _paths(value, path=()):
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield (*path, name)
        yield from _paths(inner, (*path, name))


def _with(value, path, odd):
    name, *rest = path
    changed = dict(value)
    if rest:
        changed[name] = _with(value[name], rest, odd)
    elif odd is ...:
        del changed[name]
    else:
        changed[name] = odd
    return changed


def test_routing_tables():
    assert Table.from_json(TABLE.to_json()) == TABLE
    for text in documents(TABLE.to_json()):
        with suppress(TableRefused):
            Table.from_json(text)


def test_controls():
    assert Controls.from_json(CONTROLS.to_json()) == CONTROLS
    for text in documents(CONTROLS.to_json()):
        try:
            Controls.from_json(text)
        except ValueError as error:
            assert "no record of controls" in str(error)


def test_reports():
    sound = report("home", 1).to_json()
    for text in documents(sound):
        with suppress(ReportRefused):
            found = RegionReport.from_json(text).report
            accept(found, None, 1e9, {"home"})
            fresh(found, 1e9)


@pytest.mark.parametrize("kind", [RENDER, DELIVER])
def test_arguments_of_tasks(kind):
    job_id = uuid4()
    assert read_arguments(kind, [str(job_id), 3]) == [job_id, 3]
    bad = [*ODD, *([odd, 3] for odd in ODD), *([str(job_id), odd] for odd in ODD)]
    bad += [[str(job_id)], [str(job_id), 3, 4], [str(job_id), 2**31], (str(job_id), 3)]
    for arguments in bad:
        with pytest.raises(Unreadable):
            read_arguments(kind, arguments)


def test_a_sweep_takes_nothing_and_other_tasks_are_unknown():
    assert read_arguments(SWEEP, []) == []
    for task in ("stillmotion.other", *ODD):
        with pytest.raises(Unreadable, match="unknown task"):
            read_arguments(task, [])
    with pytest.raises(Unreadable):
        read_arguments(SWEEP, [1])


def count(where):
    labels = {"where": where}
    return API.get_sample_value("stillmotion_messages_dropped_total", labels) or 0.0


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1 2", "1 2 3 4", "a b c", "1 2 nan", "1 2 inf", "1 2 1e300", "-1 2 3"),
        *("1 -2 3", f"{2**40} 1 1", "1 2 -3", "9" * 100_000, "\ufffd" * 9, "1 2 3" + " " * 99),
    ],
)
def test_steps(text):
    before = count("progress")
    known = progress.heard(text)
    assert (known is None) == (count("progress") == before + 1)


def test_a_step_and_a_change_are_no_oddities():
    before = count("progress")
    assert progress.heard("3 7 1700000000.125") == (3, 7, 1700000000.125)
    assert progress.heard(progress.CHANGED) is None
    assert count("progress") == before


def test_counters():
    before = count("counter")
    assert dropped.as_count("12", "counter") == 12
    assert dropped.as_count(None, "counter") is None
    for odd in ("", "-1", "1.5", "x", "\u0663", "9" * 5000, b"\xff"):
        assert dropped.as_count(odd, "counter") is None
    assert count("counter") == before + 7
