"""Metrics agree: the guide's table, dashboards, alerts and the runbook."""

import json
import re

import pytest
import yaml

from tests.support import documents
from tests.support.services import ROOT

RUNBOOK = "infra/RUNBOOK.md"
OF_PROMETHEUS = {"up"}
# On no dashboard and in no alert: for whoever looks closer.
UNWATCHED = {"stillmotion_places_refused_total", "stillmotion_table_version"}


def rules():
    for name in ("rules", "alerts"):
        for group in yaml.safe_load((ROOT / f"infra/alerts/{name}.yml").read_text())["groups"]:
            yield from group["rules"]


def panels():
    for path in sorted((ROOT / "infra/grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            yield path.stem, panel


# Their commands, as one reads them: the test of the runbook runs them.
QUERIES = [
    query
    for place, block in documents.blocks(RUNBOOK).items()
    for command in re.findall(r"promtool query .+?(?=\n\S|\Z)", block, re.DOTALL)
    for query in re.findall(r"['\"]([^'$]*stillmotion[^']+)['\"]", command)
]
ALERTS = [rule for rule in rules() if "alert" in rule]
EXPRESSIONS = [rule["expr"] for rule in rules()] + [
    target["expr"] for _, panel in panels() for target in panel["targets"]
]


def listed():
    _, _, section = documents.read("docs/guides/operating.md").partition("## Metrics\n")
    table, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| (`stillmotion_.+?`) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(.+?)`", row)}


def used(expr):
    """The names of metrics and of recorded shares in an expression, without a histogram's parts."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on|without|ignoring) \([^)]*\)", "", expr)
    names = set(re.findall(r"\b(?:stillmotion[_:][\w:]+|up)\b", bare))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def test_dashboards_and_alerts_use_metrics_that_exist():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    known = listed() | recorded | OF_PROMETHEUS
    unknown = {expr: used(expr) - known for expr in EXPRESSIONS + QUERIES}
    assert {expr: names for expr, names in unknown.items() if names} == {}
    assert all(used(expr) for expr in EXPRESSIONS)
    assert len(QUERIES) > 15


def test_every_metric_is_watched():
    assert listed() - {name for expr in EXPRESSIONS for name in used(expr)} == UNWATCHED


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule):
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert {"summary", "description", "runbook"} == notes.keys()
    document, _, anchor = notes["runbook"].partition("#")
    assert document == RUNBOOK and anchor == rule["alert"].lower()
    assert anchor in documents.anchors(RUNBOOK)


def test_the_runbook_has_entries_for_these_alerts_only():
    _, _, section = documents.read(RUNBOOK).partition("## Alerts\n")
    section, _, _ = section.partition("\n## ")
    entries = re.findall(r"^### (.+)$", section, re.MULTILINE)
    assert entries == list(dict.fromkeys(rule["alert"] for rule in ALERTS))


def test_panels_of_a_dashboard_do_not_overlap():
    places = {}
    for board, panel in panels():
        at = panel["gridPos"]
        cells = {
            (board, x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & places.keys(), panel["title"]
        places |= dict.fromkeys(cells)
