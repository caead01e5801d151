"""Checks manifests (JSON lines on stdin) against strict schemas; prints a line for each problem.

Run by the tools' interpreter: its packages carry the schemas of Kubernetes, KEDA and the Prometheus
operator. A kind without a schema is a problem.
"""

import json
import sys
from functools import cache

import kubernetes_validate
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus
from jsonschema import Draft202012Validator
from kubernetes_validate import utils

VERSION = "1.37"
MODELS = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus.PrometheusRule,
}
# It would parse megabytes anew for each manifest.
utils.schema_contents = cache(utils.schema_contents)


def strict(schema):
    """The same schema, which refuses fields that it does not know."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
            if schema["additionalProperties"] is True:
                schema["additionalProperties"] = False
        for part in schema.values():
            strict(part)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)
    return schema


@cache
def validator_of(model):
    return Draft202012Validator(strict(model.model_json_schema(by_alias=True)))


def problems(manifest):
    model = MODELS.get((manifest.get("apiVersion"), manifest.get("kind")))
    if model is not None:
        validator = validator_of(model)
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error).splitlines()[0]]
    except kubernetes_validate.SchemaNotFoundError:
        return ["no schema for this kind"]
    return []


for line in sys.stdin:
    manifest = json.loads(line)
    for problem in problems(manifest):
        print(f"{manifest.get('kind')} {manifest['metadata']['name']}: {problem[:500]}")
