"""What is built, deployed and recorded has one version."""

import re
from pathlib import Path

import pytest
from packaging.version import Version

from stillmotion import __version__

ROOT = Path(__file__).parents[2]
PLACES = {
    "infra/compose/compose.yaml": r"\$\{TAG:-([^}]+)\}",
    "infra/helm/stillmotion/Chart.yaml": r"(?m)^(?:appV|v)ersion: (\S+)$",
    "infra/docker/Dockerfile": r"stillmotion/api:(\S+)",
    "docs/guides/deploying.md": r"stillmotion/\$target:([^\" ]+)",
}


@pytest.mark.parametrize("file", PLACES)
def test_every_file_names_the_package_s_version(file):
    found = re.findall(PLACES[file], (ROOT / file).read_text())
    assert found
    assert {Version(each) for each in found} == {Version(__version__)}  # Helm writes -dev.0
