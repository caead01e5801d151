"""Renders the chart."""

import json
import subprocess
from functools import cached_property
from pathlib import Path

import yaml

from tests.support.services import ROOT
from tests.support.tools import Tools

CHART = ROOT / "infra/helm/stillmotion"
EXAMPLES = ROOT / "infra/helm/examples"

# The least that a release needs.
LEAST = {
    "image": {"registry": "registry.example/stillmotion"},
    "settings": {"existingSecret": "settings"},
    "regions": {"existingSecret": "regions"},
    "flower": {"existingSecret": "flower"},
    "api": {"region": "us-east"},
    "cells": {"us-east": {"pools": {"motion-small": {}}}},
    "networkPolicy": {"services": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
}


def layered(*layers: dict) -> dict:
    """Values laid over each other, as Helm does."""
    out: dict = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict)
            out[key] = layered(out[key], value) if both else value
    return out


class Helm:
    """The real one, on this chart."""

    def __init__(self, tools: Tools, folder: Path):
        self._helm = tools.helm
        self._folder = folder

    def run(self, verb: str, values: dict | Path, *options: str) -> subprocess.CompletedProcess:
        if isinstance(values, dict):
            path = self._folder / "values.yaml"
            path.write_text(json.dumps(values))
        else:
            path = values
        names = ["stillmotion", CHART] if verb == "template" else [CHART]
        return subprocess.run(
            [self._helm, verb, *names, "-f", path, "--kube-version", "1.37.0", *options],
            env={"HOME": str(self._folder), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def render(self, values: dict | Path, *options: str) -> "Release":
        done = self.run("template", values, *options)
        assert done.returncode == 0, done.stderr
        return Release(done.stdout)

    def refusal(self, values: dict) -> str:
        """What Helm says of values that it refuses."""
        done = self.run("template", values)
        assert done.returncode != 0, "these values must be refused"
        return done.stderr


class Release:
    """What a render made."""

    def __init__(self, text: str):
        self.text = text

    @cached_property
    def manifests(self) -> list[dict]:
        return [each for each in yaml.load_all(self.text, yaml.CSafeLoader) if each]

    def of(self, kind: str, component: str | None = None) -> list[dict]:
        found = [each for each in self.manifests if each["kind"] == kind]
        if component is not None:
            label = "app.kubernetes.io/component"
            found = [each for each in found if each["metadata"]["labels"].get(label) == component]
        return found

    @property
    def pods(self) -> list[dict]:
        """The pod templates of all workloads."""
        return [each["spec"]["template"] for each in (*self.of("Deployment"), *self.of("Job"))]

    @property
    def containers(self) -> list[dict]:
        return [container for pod in self.pods for container in pod["spec"]["containers"]]


def selects(selector: dict, labels: dict) -> bool:
    return selector.items() <= labels.items()
