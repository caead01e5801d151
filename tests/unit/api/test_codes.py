"""The list of error codes is complete, and the tests cover every code."""

import ast
from pathlib import Path

from app.api.openapi.codes import CODES
from app.api.request.errors import CODES_BY_STATUS
from app.domain import errors

ROOT = Path(__file__).parents[3]
RAISED = ("app/api", "app/objects", "app/outbound", "app/pictures", "app/safety.py")
# Calls that name a code, and which of their arguments it is.
NAMED = {"BadRequest": 0, "FieldError": 0, "Overloaded": 0, "problem": 1}
# Raised only when a disk, database or process fails; their tests expect the class.
UNTESTED = {"pictures_unavailable", "temporarily_unavailable", "bad_request"}


def python_files(*places):
    for place in places:
        path = ROOT / place
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def codes_raised():
    for path in python_files(*RAISED):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if isinstance(node.func, ast.Name) and node.func.id in NAMED:
                given += node.args[NAMED[node.func.id] :][:1]
            for value in given:
                for part in ast.walk(value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value, path.name


def test_every_code_that_is_raised_is_listed():
    raised = set(codes_raised())
    assert len(raised) > 20, "the search finds nothing"
    unlisted = {(code, where) for code, where in raised if code not in CODES}
    assert not unlisted
    assert set(CODES_BY_STATUS.values()) <= CODES.keys()
    unavailable = (errors.Transient, errors.DatabaseUnavailable, errors.StorageUnavailable)
    assert {kind.code for kind in unavailable} <= CODES.keys()


def test_every_code_is_covered_by_a_test():
    tests = "".join(
        path.read_text() for path in python_files("tests") if path.name != Path(__file__).name
    )
    unmet = {code for code in CODES if f'"{code}"' not in tests} - UNTESTED
    assert not unmet


def test_statuses_and_sentences_are_well_formed():
    for code, (status, sentence) in CODES.items():
        assert code == code.lower(), code
        assert 400 <= status <= 503, code
        assert sentence.endswith("."), code
