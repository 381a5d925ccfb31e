"""The files in `deploy/`: valid by the schemas of their formats, hardened, and true to the commands and names of the library.

Nothing is run: there is no container engine and no cluster here.
"""

import json
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from leanrag.cli.main import _parser
from leanrag.serving import on_ray
from leanrag.serving.app import _PUBLIC
from leanrag.serving.metrics import Metrics
from leanrag.serving.running import _GRACE_SECONDS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
MANIFESTS = {
    path.name: list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
}
RESOURCES = {
    f"{name}-{each['kind']}-{each['metadata']['name']}": each for name, all_ in MANIFESTS.items() for each in all_
}
CUSTOM = {"ScaledObject", "RayService"}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
RAY = next(each for each in RESOURCES.values() if each["kind"] == "RayService")
SCALED = next(each for each in RESOURCES.values() if each["kind"] == "ScaledObject")
DEPLOYMENT = next(each for each in RESOURCES.values() if each["kind"] == "Deployment")


def pod_specs():
    yield "deployment", DEPLOYMENT["spec"]["template"]["spec"]
    cluster = RAY["spec"]["rayClusterConfig"]
    yield "ray head", cluster["headGroupSpec"]["template"]["spec"]
    for group in cluster["workerGroupSpecs"]:
        yield f"ray {group['groupName']}", group["template"]["spec"]


PODS = dict(pod_specs())
POD = pytest.mark.parametrize("pod", [*PODS.values()], ids=[*PODS])


# Kubernetes


@pytest.mark.parametrize(
    "resource", [each for each in RESOURCES.values() if each["kind"] not in CUSTOM], ids=lambda r: r["kind"]
)
def test_a_resource_is_valid_by_the_schema_of_kubernetes(resource):
    kubernetes = pytest.importorskip("kubernetes_validate")
    kubernetes.validate(resource, kubernetes.latest_version(), strict=True)


@POD
def test_the_pods_of_custom_resources_are_valid_by_the_schema_of_kubernetes(pod):
    kubernetes = pytest.importorskip("kubernetes_validate")
    resource = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod}
    kubernetes.validate(resource, kubernetes.latest_version(), strict=True)


@POD
def test_a_pod_is_hardened(pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod.get("initContainers", [])):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}
        assert "memory" in container["resources"]["limits"]


@POD
def test_a_pod_mounts_what_it_has_and_stops_after_the_answers(pod):
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["containers"], *pod.get("initContainers", [])):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    stop = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] > _GRACE_SECONDS + stop


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_probe_needs_no_key(probe):
    container = DEPLOYMENT["spec"]["template"]["spec"]["containers"][0]
    request = container[probe]["httpGet"]
    assert request["path"] in _PUBLIC
    assert request["port"] in {port["name"] for port in container["ports"]}


def test_the_parts_belong_together():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for each in RESOURCES.values():
        if each["kind"] == "Service":
            assert each["spec"]["selector"].items() <= labels.items()
        if each["kind"] == "PodDisruptionBudget":
            assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    claims = {each["metadata"]["name"] for each in RESOURCES.values() if each["kind"] == "PersistentVolumeClaim"}
    for pod in PODS.values():
        used = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        ]
        assert set(used) <= claims


def test_keda_scales_the_deployment_by_a_figure_of_the_server():
    """The fields are those of `keda.sh/v1alpha1`, whose schema is in no package."""
    assert SCALED["apiVersion"] == "keda.sh/v1alpha1"
    spec = SCALED["spec"]
    assert set(spec) <= {
        "scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount", "minReplicaCount",
        "maxReplicaCount", "fallback", "advanced", "triggers",
    }  # fmt: skip
    target = spec["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", DEPLOYMENT["metadata"]["name"])
    assert 0 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert set(spec["fallback"]) == {"failureThreshold", "replicas"}
    (trigger,) = spec["triggers"]
    assert set(trigger) <= {"type", "metadata", "metricType", "authenticationRef", "name", "useCachedMetrics"}
    assert trigger["type"] == "prometheus"
    assert trigger["metricType"] == "AverageValue"
    assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold"}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    names = {metric.name for metric in vars(Metrics()).values()}
    assert set(re.findall(r"leanrag_\w+", trigger["metadata"]["query"])) <= names


def test_the_behaviour_of_keda_is_that_of_an_autoscaler_of_kubernetes():
    kubernetes = pytest.importorskip("kubernetes_validate")
    spec = SCALED["spec"]
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "leanrag"},
        "spec": {
            "scaleTargetRef": spec["scaleTargetRef"],
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }
    kubernetes.validate(autoscaler, kubernetes.latest_version(), strict=True)


def test_the_ray_service_is_one():
    """The fields are those of `ray.io/v1`, whose schema is in no package."""
    assert RAY["apiVersion"] == "ray.io/v1"
    assert set(RAY["spec"]) == {"serveConfigV2", "rayClusterConfig"}
    cluster = RAY["spec"]["rayClusterConfig"]
    assert set(cluster) == {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
    assert set(cluster["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in cluster["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert all(isinstance(value, str) for value in cluster["headGroupSpec"]["rayStartParams"].values())
    assert f"\nray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_the_application_of_the_ray_service_exists():
    (application,) = yaml.safe_load(RAY["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"] == f"{on_ray.__name__}:{on_ray.answer_application.__name__}"
    settings = on_ray.ReplicaSettings.model_validate(application["args"])
    mounts = {mount["mountPath"] for mount in PODS["ray answers"]["containers"][0]["volumeMounts"]}
    assert set(settings.folders.values()) <= mounts


# Commands


def commands():
    container = DEPLOYMENT["spec"]["template"]["spec"]["containers"][0]
    yield container["args"]
    yield COMPOSE["services"]["models"]["command"]
    yield json.loads(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])


@pytest.mark.parametrize("command", [*commands()], ids=lambda command: command[0])
def test_a_command_is_one_of_leanrag(command):
    assert _parser().parse_args(command).run


def test_the_models_that_are_served_are_pulled():
    pulled = COMPOSE["services"]["models"]["command"][1:]
    assert COMPOSE["services"]["leanrag"]["environment"]["LEANRAG_MODEL"] in pulled
    assert "all-minilm-l6-v2" in pulled


# The image


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="hadolint is a program for x86-64"
)
def test_the_dockerfile_is_valid():
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("needs hadolint")
    result = subprocess.run([program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_image_is_made_of_files_that_exist_and_are_sent():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        shlex.split(line)[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY") and "--from" not in line
    ]
    sources = [source for sources in copied for source in sources]
    assert len(sources) > 4
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_the_image_installs_extras_that_exist():
    _, _, extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")
    (installed,) = re.findall(r"'\.\[(.*)\]'", DOCKERFILE)
    assert set(installed.split(",")) <= set(re.findall(r"^([\w-]+) = \[", extras.partition("\n[")[0], re.MULTILINE))


def test_the_user_of_the_image_is_that_of_the_pods():
    assert "\nUSER 10001:10001\n" in DOCKERFILE
    assert all(pod["securityContext"]["runAsUser"] == 10001 for pod in PODS.values())
    assert DOCKERFILE.rindex("USER") < DOCKERFILE.rindex("ENTRYPOINT")
    assert "HEALTHCHECK" in DOCKERFILE


# Compose


def test_the_compose_file_is_valid_by_the_schema_of_compose():
    builtin = pytest.importorskip("check_jsonschema.builtin_schemas")
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(COMPOSE, builtin.get_builtin_schema("vendor.compose-spec"))


@pytest.mark.parametrize("service", [*COMPOSE["services"].values()], ids=[*COMPOSE["services"]])
def test_a_service_is_hardened(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user", "10001").split(":")[0] != "0"
    named = [volume.split(":")[0] for volume in service.get("volumes", [])]
    assert set(named) <= COMPOSE["volumes"].keys()
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_leanrag_waits_for_its_services_and_finishes_its_answers():
    service = COMPOSE["services"]["leanrag"]
    for name, how in service["depends_on"].items():
        other = COMPOSE["services"][name]
        assert how["condition"] == ("service_healthy" if "healthcheck" in other else "service_completed_successfully")
    assert int(service["stop_grace_period"].removesuffix("s")) > _GRACE_SECONDS


def test_no_secret_is_in_the_files():
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?i)(password|keys?):\s+[\"']?[a-z0-9]{6,}[\"']?\s*$", text, re.MULTILINE), path
