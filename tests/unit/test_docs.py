"""The documents agree with the tree: links, paths, log events, and a README that stays short."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import cluster_figures, metrics
from tests.support import documents
from tests.support.services import ROOT

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / "infra/RUNBOOK.md",
        ROOT / "workers/weights/motion-small/README.md",
    )
)
# The changelog also names removed files.
OF_TODAY = [name for name in DOCUMENTS if name != "CHANGELOG.md"]

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LOG_TABLE = "docs/guides/operating.md"


def test_the_readme_is_short():
    assert len(documents.read("README.md").splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    broken = []
    for link in documents.links(document):
        if re.match(r"(https?|mailto):", link):
            continue
        name, _, fragment = link.partition("#")
        target = (ROOT / document).parent / name if name else ROOT / document
        if not target.exists():
            broken.append(link)
        elif fragment and fragment not in documents.anchors(str(target.resolve())):
            broken.append(f"{link}: there is no such heading")
    assert not broken, f"broken links in {document}:{_lines(broken)}"


@pytest.mark.parametrize("document", OF_TODAY)
def test_every_path_exists(document):
    missing = [path for path in sorted(documents.paths(document)) if not (ROOT / path).exists()]
    assert not missing, f"not in the tree, but named in {document}:{_lines(missing)}"


def test_the_architecture_answers_where_ten_rules_are():
    _, _, section = documents.read("docs/architecture.md").partition("## Where is the rule that…\n")
    table, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| (.+\?) \| `(.+)` \|$", table, re.MULTILINE)
    assert len(rows) >= 10
    assert [path for _, path in rows if not (ROOT / path).is_file()] == []


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs/decisions"
    titles = {
        path.name: path.read_text().splitlines()[0].removeprefix("# ")
        for path in sorted(folder.glob("[0-9]*.md"))
    }
    listed = re.findall(r"^(\d+\. )\[(.+)\]\((.+?)\)", (folder / "README.md").read_text(), re.M)
    assert {name: f"{number}{title}" for number, title, name in listed} == titles
    numbers = sorted(int(name.partition("-")[0]) for name in titles)
    assert numbers == list(range(1, len(numbers) + 1))


def _calls(root: Path) -> Iterator[tuple[str, ast.expr | None]]:
    """Every call of a structlog logger: its location and its event."""
    for path in sorted(root.rglob("*.py")):
        source = path.read_text()
        if "structlog.get_logger" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"log", "logger"}
            ):
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield where, node.args[0] if node.args else None


def _events() -> dict[str, str]:
    """The ids of all log events in the code, with a place for each."""
    events, wrong = {}, []
    for package in ("app", "workers"):
        for where, argument in _calls(ROOT / package):
            for event in _strings(argument):
                if event is None or not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", event):
                    wrong.append(f"{where}: {event!r}")
                else:
                    events[event] = where
    assert not wrong, f"a log event is one snake_case id, details are fields:{_lines(wrong)}"
    assert events
    return events


def _strings(argument: ast.expr | None) -> list[str | None]:
    """The possible values of an event; None for one that is not a literal."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    if isinstance(argument, ast.IfExp):
        return [*_strings(argument.body), *_strings(argument.orelse)]
    return [None]


def test_every_log_event_is_in_the_table():
    events = _events()
    _, _, section = documents.read(LOG_TABLE).partition("## Logs\n")
    table = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert sorted(table) == sorted(set(table))
    missing = [f"{event} ({events[event]})" for event in sorted(events.keys() - set(table))]
    gone = sorted(set(table) - events.keys())
    assert not missing, f"log events that {LOG_TABLE} lacks:{_lines(missing)}"
    assert not gone, f"log events in {LOG_TABLE} that no code writes:{_lines(gone)}"


KINDS = {
    "API": metrics.API,
    "dispatcher": metrics.DISPATCHER,
    "GPU worker": metrics.GPU_WORKER,
    "CPU worker": metrics.CPU_WORKER,
}


def _metrics() -> dict[str, str]:
    """Every metric of ours, and the processes that show it as the table says it."""
    found: dict[str, list[str]] = {}
    for kind, registry in KINDS.items():
        for family in registry.collect():
            if family.name.startswith("stillmotion_"):
                name = family.name + ("_total" if family.type == "counter" else "")
                found.setdefault(name, []).append(kind)
    of = {name: "all" if len(kinds) == 4 else ", ".join(kinds) for name, kinds in found.items()}
    return of | dict.fromkeys(cluster_figures.CLUSTER, "leader")


def test_every_metric_is_in_the_table_with_its_process():
    _, _, section = documents.read(LOG_TABLE).partition("## Metrics\n")
    table, _, _ = section.partition("\n## ")
    listed = {
        name: of.strip()
        for names, of in re.findall(r"^\| (`stillmotion_.+?`) \| (.+?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(.+?)`", names)
    }
    assert listed == _metrics()


def _lines(items: list[str]) -> str:
    return "".join(f"\n  {item}" for item in items)
