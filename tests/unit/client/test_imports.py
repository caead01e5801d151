"""What the package loads, and when."""

import ast
import subprocess
import sys

import pytest

import stillmotion
from tests.support import services


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"],
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import stillmotion",
        "from stillmotion import JobState, Rejected",
        "import stillmotion.cli.root",
        "import app.domain.errors, app.domain.job.state",
    ],
)
def test_light_modules_load_neither_httpx_nor_pydantic(statement):
    assert not {"httpx", "pydantic", "rich"} & loaded_by(statement)


def test_the_client_loads_nothing_of_the_server():
    loaded = loaded_by("from stillmotion import *; import stillmotion.cli.root")
    assert not {"app", "workers", "sqlalchemy", "flask"} & loaded
    assert "httpx" in loaded


def test_every_public_name_exists_for_type_checkers_and_at_run_time():
    tree = ast.parse((services.ROOT / "stillmotion/__init__.py").read_text())
    [block] = (node for node in tree.body if isinstance(node, ast.If))
    typed = {name.name for line in block.body for name in line.names}
    assert sorted(typed) == sorted(stillmotion.__all__)
    for name in stillmotion.__all__:
        assert getattr(stillmotion, name).__module__.startswith("stillmotion.")
        assert name in dir(stillmotion)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Cliend'"):
        stillmotion.Cliend  # noqa: B018
