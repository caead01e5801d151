"""The chart, rendered by the real Helm: strict schemas, and what no schema can see.

No kube-apiserver is to be had here, so nothing is admitted, scheduled or scaled by these tests.
"""

import json
import re
import subprocess

import pytest

from app.config.profiles_file import PROFILES
from app.config.settings import Settings
from tests.infra.chart import CHART, EXAMPLES, LEAST, Helm, layered, selects
from tests.infra.images import TARGETS
from tests.support.services import ROOT

DOCKERFILE = (ROOT / "infra/docker/Dockerfile").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
SETTINGS = {name.upper() for name in Settings.model_fields}
# Secret, or set by the chart itself.
IN_THE_SECRET = {"DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL", "BROKER_URL"}
IN_THE_SECRET |= {"SECRET_KEY", "PREVIOUS_SECRET_KEY"}
BY_THE_CHART = {"REGION", "REGIONS_FILE", "INTERNAL_PORT", "INTERNAL_HOST", "READY_FILE"}
BY_THE_CHART |= {"DRAIN_FILE", "MODEL_PROFILE", "MODEL_PROFILES", "PROVENANCE_CERT"}
BY_THE_CHART |= {"PROVENANCE_KEY"}
OF_LIBRARIES = {"AWS_DEFAULT_REGION", "AWS_REGION"}

KEDA = {"enabled": True, "min": 2, "max": 40, "fallback": 8}
POOL = {
    "weights": {"existingClaim": "weights"},
    "provenance": {"existingSecret": "certificate"},
    "drainFile": "/run/stillmotion/drain",
    "settings": {"MODEL_DIR": "/weights/mine", "MODEL_STEPS": 8},
    "nodeSelector": {"gpu": "l40s"},
    "maxUnavailable": "10%",
    "keda": KEDA,
}
MONITORED = {"podMonitor": True, "labels": {"release": "prometheus"}}
RULES = "groups: [{name: g, rules: [{alert: A, expr: vector(1), for: 1m}]}]"
MATRIX = {
    "least": LEAST,
    "everything": layered(
        LEAST,
        {
            "image": {"pullSecrets": ["pull"], "digests": {"gpu": f"sha256:{'0' * 64}"}},
            "settings": {"values": {"RETENTION_S": 2592000, "ADMISSION": False}},
            "profiles": {"existingConfigMap": "profiles"},
            "serviceAccountName": "bucket",
            "priorityClassName": "high",
            "api": {
                "nodeSelector": {"a": "b"},
                "tolerations": [{"key": "k", "operator": "Exists"}],
                "ingress": {
                    "enabled": True,
                    "className": "nginx",
                    "host": "clips.example",
                    "tlsSecret": "tls",
                    "annotations": {"a/b": "c"},
                },
            },
            "cells": {"us-east": {"pools": {"motion-small": POOL}}, "us-west": {}},
            "keda": {"prometheus": "http://prometheus:9090"},
            "monitoring": {**MONITORED, "rules": RULES},
            "networkPolicy": {
                "apiFrom": [{"namespaceSelector": {}}],
                "flowerFrom": [{"podSelector": {}}],
            },
        },
    ),
    "no extras": layered(
        LEAST,
        {
            "migrate": {"enabled": False},
            "api": {"enabled": False},
            "networkPolicy": {"enabled": False},
            "cells": {"us-east": {"flower": False, "pools": {"a": {"profile": "noop"}}}},
            "poolDefaults": {"replicas": 0, "tolerations": []},
        },
    ),
    "us-east": EXAMPLES / "us-east.yaml",
    "eu-west": EXAMPLES / "eu-west.yaml",
}


@pytest.fixture
def helm(tools, tmp_path) -> Helm:
    return Helm(tools, tmp_path)


@pytest.fixture(params=MATRIX)
def release(request, helm):
    return helm.render(MATRIX[request.param])


@pytest.fixture
def everything(helm):
    return helm.render(MATRIX["everything"])


@pytest.fixture
def problems(tools):
    """What the strict schemas say of manifests."""

    def check(manifests):
        script = ROOT / "tests/infra/schemas.py"
        lines = "".join(json.dumps(each) + "\n" for each in manifests)
        done = subprocess.run(
            [tools.python, script], input=lines, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return check


@pytest.mark.parametrize("values", MATRIX)
def test_the_chart_has_no_lint(helm, values):
    done = helm.run("lint", MATRIX[values], "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_manifest_fits_its_schema(helm, problems):
    manifests = [each for values in MATRIX.values() for each in helm.render(values).manifests]
    assert len(manifests) > 200
    assert problems(manifests) == []


def test_the_schemas_refuse_what_is_misspelt_or_unknown(everything, problems):
    def wrong(kind, *path):
        manifest = json.loads(json.dumps(everything.of(kind)[0]))
        inner = manifest
        for name in path:
            inner = inner[name]
        inner["misspelt"] = 1
        return manifest

    metadata = {"name": "x"}
    manifests = [
        wrong("Deployment", "spec", "strategy"),
        wrong("NetworkPolicy", "spec"),
        wrong("ScaledObject", "spec"),
        wrong("ScaledObject", "spec", "fallback"),
        wrong("PodMonitor", "spec", "selector"),
        wrong("PrometheusRule", "spec"),
        {"apiVersion": "apps/v1", "kind": "Deploymint", "metadata": metadata},
        {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": metadata},
    ]
    found = problems(manifests)
    for manifest in manifests:
        start = f"{manifest['kind']} {manifest['metadata']['name']}: "
        assert any(line.startswith(start) for line in found), start


def test_two_renders_are_equal(helm):
    for values in MATRIX.values():
        assert helm.render(values).text == helm.render(values).text


def test_two_regions_of_ten_cells(helm):
    for region in ("us-east", "eu-west"):
        release = helm.render(MATRIX[region])
        cells = {f"{region}-{number}" for number in range(1, 11)}
        for component in ("dispatcher", "cpu", "gpu", "flower"):
            found = release.of("Deployment", component)
            assert {each["metadata"]["labels"]["stillmotion/cell"] for each in found} == cells
            for each in found:
                env = environment(each["spec"]["template"]["spec"]["containers"][0])
                assert env["REGION"] == each["metadata"]["labels"]["stillmotion/cell"]


def environment(container):
    return {each["name"]: each.get("value") for each in container.get("env", ())}


def test_selectors_find_exactly_their_pods(release):
    pods = {each["metadata"]["name"]: each["spec"]["template"] for each in release.of("Deployment")}

    def found_by(selector):
        labels = selector.get("matchLabels", selector)
        return {name for name, pod in pods.items() if selects(labels, pod["metadata"]["labels"])}

    for each in release.of("Deployment"):
        assert found_by(each["spec"]["selector"]) == {each["metadata"]["name"]}
        for spread in each["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert found_by(spread["labelSelector"]) == {each["metadata"]["name"]}
    budgets = [found_by(each["spec"]["selector"]) for each in release.of("PodDisruptionBudget")]
    assert sorted(budgets, key=str) == sorted(({name} for name in pods), key=str)
    for each in release.of("Service"):
        [name] = found_by(each["spec"]["selector"])
        ports = {port["name"] for port in pods[name]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
    for each in (*release.of("NetworkPolicy"), *release.of("PodMonitor")):
        selector = each["spec"].get("podSelector") or each["spec"]["selector"]
        assert found_by(selector), each["metadata"]["name"]
    for each in release.of("Ingress"):
        [path] = each["spec"]["rules"][0]["http"]["paths"]
        names = {service["metadata"]["name"] for service in release.of("Service")}
        assert path["backend"]["service"]["name"] in names


def test_every_variable_is_a_setting(release):
    for container in release.containers:
        names = environment(container).keys()
        assert names <= SETTINGS | OF_LIBRARIES | {"FLOWER_BASIC_AUTH"}
        assert len(names) == len(container.get("env", ())), "a variable is given twice"


def test_the_chart_knows_every_setting():
    known = set(SCHEMA["definitions"]["settings"]["propertyNames"]["enum"])
    assert known == SETTINGS - IN_THE_SECRET - BY_THE_CHART | OF_LIBRARIES


def test_numbers_and_booleans_reach_a_process_as_they_are_written(everything):
    env = environment(
        everything.of("Deployment", "api")[0]["spec"]["template"]["spec"]["containers"][0]
    )
    assert (env["RETENTION_S"], env["ADMISSION"]) == ("2592000", "false")


def test_images_ports_and_probes_exist(release):
    exposed = {int(port) for port in re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.M)}
    assert "0.0.0.0:8000" in DOCKERFILE
    assert "--port=5555" in (ROOT / "infra/docker/bin/flower-with-login").read_text()
    answered = (ROOT / "app/internal_port.py").read_text()
    for container in release.containers:
        target = container["image"].rpartition("/")[2].partition(":")[0].partition("@")[0]
        assert target in TARGETS
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        assert set(ports.values()) <= exposed
        if "internal" in ports:
            assert str(ports["internal"]) == environment(container)["INTERNAL_PORT"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind in container:
                asked = container[kind]["httpGet"]
                assert asked["port"] in ports
                assert f'"{asked["path"]}"' in answered or target == "flower"
        if ports:
            assert container["livenessProbe"] and container["readinessProbe"]


def test_nothing_may_write_or_escape(release):
    for pod in release.pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"]["runAsUser"] == 10001
        for container in pod["spec"]["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            for mount in container["volumeMounts"]:
                assert mount["mountPath"] == "/tmp" or mount["readOnly"]
        mounted = {m["name"] for c in pod["spec"]["containers"] for m in c["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_the_chart_makes_no_secret_and_needs_no_right(release):
    kinds = {each["kind"] for each in release.manifests}
    assert not kinds & {"Secret", "ServiceAccount", "Role", "RoleBinding", "ClusterRole"}


def test_the_migration_depends_on_nothing_of_the_chart(helm):
    release = helm.render(LEAST)
    [job] = release.of("Job")
    annotations = job["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod
    assert [set(volume) for volume in pod["volumes"]] == [{"name", "emptyDir"}]
    [container] = pod["containers"]
    assert container["command"] == ["stillmotion", "migrate"]
    assert container["envFrom"] == [{"secretRef": {"name": "settings"}}]


def test_a_stopped_worker_has_longer_than_an_attempt_may_take(release):
    workers = release.of("Deployment", "gpu")
    assert workers
    for each in workers:
        pod = each["spec"]["template"]["spec"]
        profile = PROFILES[environment(pod["containers"][0])["MODEL_PROFILE"]]
        assert pod["terminationGracePeriodSeconds"] >= profile.attempt_limit_s + 30
        starts_s = pod["containers"][0]["startupProbe"]["failureThreshold"] * 5
        assert each["spec"]["progressDeadlineSeconds"] > (
            pod["terminationGracePeriodSeconds"] + starts_s
        )
        # A surge needs GPUs that nobody has.
        assert each["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
        assert "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]


def test_the_api_is_out_of_the_service_before_it_stops(helm):
    [api] = helm.render(LEAST).of("Deployment", "api")
    pod = api["spec"]["template"]["spec"]
    sleep_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep_s >= 5
    graceful_s = int(
        re.search(r"^graceful_timeout = (\d+)$", (ROOT / "app/gunicorn_conf.py").read_text(), re.M)[
            1
        ]
    )
    assert pod["terminationGracePeriodSeconds"] > sleep_s + graceful_s
    assert api["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_pool_is_scaled_by_its_jobs_and_not_by_silence(everything):
    [scaler] = everything.of("ScaledObject")
    [target] = [
        each
        for each in everything.of("Deployment")
        if each["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"]
    ]
    assert "replicas" not in target["spec"], "an upgrade would reset it"
    [trigger] = scaler["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert 'stillmotion_live_jobs{region="us-east",profile="motion-small"}' in query
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert scaler["spec"]["fallback"]["replicas"] == KEDA["fallback"]
    env = environment(target["spec"]["template"]["spec"]["containers"][0])
    assert (env["REGION"], env["MODEL_PROFILE"]) == ("us-east", "motion-small")


def test_weights_certificates_and_notices_are_mounted_read_only(everything):
    [gpu] = everything.of("Deployment", "gpu")
    pod = gpu["spec"]["template"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    env = environment(pod["containers"][0])
    assert env["MODEL_DIR"].startswith(mounts["weights"])
    assert env["PROVENANCE_CERT"].startswith(mounts["provenance"])
    assert env["DRAIN_FILE"] == f"{mounts['drain']}/drain"
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["drain"]["hostPath"]["path"] == "/run/stillmotion"
    assert volumes["weights"]["persistentVolumeClaim"]["readOnly"]


def test_zero_and_false_are_values(helm):
    release = helm.render(MATRIX["no extras"])
    assert release.of("Deployment", "flower") == []
    workers = release.of("Deployment", "gpu")
    assert [each["spec"]["replicas"] for each in workers] == [0, 0]
    assert [each["metadata"]["name"] for each in workers] == [
        "stillmotion-gpu-us-east-a",
        "stillmotion-gpu-us-east-motion-small",
    ]


MISSPELT = [
    ({"api": {"replica": 2}}, "replica"),
    ({"setings": {}}, "setings"),
    ({"settings": {"values": {"RETENTION": 60}}}, "RETENTION"),
    ({"settings": {"values": {"SECRET_KEY": "in the open"}}}, "SECRET_KEY"),
    ({"cells": {"us-east": {"pools": {"motion-small": {"kedda": {}}}}}}, "kedda"),
    ({"cells": {"us-east": {"cpu": {"replicas": "two"}}}}, "replicas"),
]
MISSING = [
    ({"image": {"registry": ""}}, "image.registry is required."),
    ({"settings": {"existingSecret": ""}}, "settings.existingSecret is required."),
    ({"regions": {"existingSecret": ""}}, "regions.existingSecret is required."),
    ({"flower": {"existingSecret": ""}}, "flower.existingSecret is required"),
    ({"api": {"region": ""}}, "api.region is required."),
    ({"networkPolicy": {"services": []}}, "networkPolicy.services is required"),
    ({"cells": {"us-east": {"pools": {"motion-small": {"keda": KEDA}}}}}, "keda.prometheus is"),
    ({"cells": {"us-east": {"pools": {"a" * 50: {}}}}}, "too long together"),
]


@pytest.mark.parametrize(("change", "named"), [*MISSPELT, *MISSING])
def test_wrong_values_are_refused_by_name(helm, change, named):
    assert named in helm.refusal(layered(LEAST, change))
