"""The cluster of jobs, in both deployments: locked down, named alike everywhere, and reached by nobody else."""

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dask
import distributed  # noqa: F401 - its settings enter dask's at its import
import kubernetes_validate
import pytest

from service.settings import Settings
from tests.deployment import files
from tests.deployment.test_agreement import are_known_settings

KINDS = [
    "ConfigMap", "Deployment", "Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget",
    "NetworkPolicy", "NetworkPolicy", "NetworkPolicy",
]  # fmt: skip
SERVICE, SCHEDULER, WORKER = "gradcheckd", "gradcheckd-scheduler", "gradcheckd-worker"
CONFIGURATION: Mapping[str, str] = files.find_cluster_manifest("ConfigMap", "gradcheckd-cluster")["data"]
COMPOSE = files.load_compose()["services"]
Allowed = Callable[[str, str, int], bool]


def get_pod(name: str) -> files.Document:
    return files.find_cluster_manifest("Deployment", name)["spec"]["template"]["spec"]


def get_container(name: str) -> files.Document:
    (container,) = get_pod(name)["containers"]
    return container


def validate(document: files.Document) -> None:
    kubernetes_validate.validate(document, "1.37", strict=True)


def test_manifests_are_valid_and_exactly_of_the_expected_kinds() -> None:
    manifests = files.load_cluster_manifests()
    assert [manifest["kind"] for manifest in manifests] == KINDS
    for manifest in manifests:
        validate(manifest)


@pytest.mark.parametrize(("position", "field"), [(0, "dat"), (1, "replica"), (6, "egres")])
def test_a_planted_field_is_found(position: int, field: str) -> None:
    document = files.load_cluster_manifests()[position]
    (document if position == 0 else document["spec"])[field] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(document)


def find_open_locks(pod: files.Document) -> list[str]:
    """Return the locks that a pod of one container lacks."""
    (container,) = pod["containers"]
    context, limits = container.get("securityContext", {}), container.get("resources", {}).get("limits", {})
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    locks = {
        "user": pod["securityContext"].get("runAsNonRoot") and pod["securityContext"].get("runAsUser") == 10001,
        "seccomp": pod["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"},
        "account": pod.get("automountServiceAccountToken") is False,
        "links": pod.get("enableServiceLinks") is False,
        "file system": context.get("readOnlyRootFilesystem") is True,
        "escalation": context.get("allowPrivilegeEscalation") is False,
        "capabilities": context.get("capabilities") == {"drop": ["ALL"]},
        "limits": set(limits) == {"cpu", "memory"},
        "probes": all(f"{probe}Probe" in container for probe in ("startup", "liveness", "readiness")),
        "sizes": all("sizeLimit" in volume.get("emptyDir", {"sizeLimit": 0}) for volume in volumes.values()),
    }
    return [name for name, is_shut in locks.items() if not is_shut]


@pytest.mark.parametrize("name", [SCHEDULER, WORKER])
def test_the_containers_are_locked_down(name: str) -> None:
    assert find_open_locks(get_pod(name)) == []
    opened = copy.deepcopy(get_pod(name))
    opened["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False
    del opened["containers"][0]["resources"]["limits"]["memory"]
    assert find_open_locks(opened) == ["file system", "limits"]


def is_dask_setting(variable: str) -> bool:
    """Return whether a variable sets what dask has a default for."""
    absent = object()
    key = variable.removeprefix("DASK_").lower().replace("__", ".")
    return dask.config.get(key, absent) is not absent


def test_every_setting_exists() -> None:
    of_compose = [name for service in ("scheduler", "worker") for name in COMPOSE[service]["environment"]]
    dask_names = [name for name in (*CONFIGURATION, *of_compose) if name.startswith("DASK_")]
    assert len(dask_names) > 10
    assert all(is_dask_setting(name) for name in dask_names)
    assert not is_dask_setting("DASK_DISTRIBUTED__COMM__TLS__CA_FILES")
    assert are_known_settings(set(CONFIGURATION) - set(dask_names))
    assert set(of_compose) <= set(dask_names)


def test_the_profile_of_compose_sets_what_the_file_takes() -> None:
    profile, text = files.read_environment_file(), (files.ROOT / "compose.yaml").read_text()
    taken = set(re.findall(r"\$\{(\w+)", text))
    assert set(profile) - {"COMPOSE_PROFILES"} == taken - {"TORCH_INDEX", "POSTGRES_PASSWORD"}
    in_profile = {
        name for name, service in COMPOSE.items() if profile["COMPOSE_PROFILES"] in service.get("profiles", [])
    }
    assert in_profile == {"scheduler", "worker", "postgres"}
    arguments = COMPOSE["gradcheckd"]["build"]["args"]
    assert files.interpolate(arguments["REQUIREMENTS"], {}) == "requirements.txt"
    assert (files.ROOT / files.interpolate(arguments["REQUIREMENTS"], profile)).exists()
    assert f"ARG REQUIREMENTS={files.interpolate(arguments['REQUIREMENTS'], {})}" in files.DOCKERFILE


def test_the_service_of_compose_works_with_the_profile_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in ({}, files.read_environment_file()):
        for name, value in COMPOSE["gradcheckd"]["environment"].items():
            monkeypatch.setenv(name, files.interpolate(value, environment))
        settings = Settings()
        assert (settings.scheduler, settings.jobs_url) == (
            environment.get("GRADCHECKD_SCHEDULER", ""),
            environment.get("GRADCHECKD_JOBS_URL", ""),
        )


def test_addresses_and_ports_agree() -> None:
    service = files.find_cluster_manifest("Service", SCHEDULER)
    ports = {port["name"]: port["containerPort"] for port in get_container(SCHEDULER)["ports"]}
    (published,) = service["spec"]["ports"]
    address = f"tls://{service['metadata']['name']}:{published['port']}"
    assert CONFIGURATION["GRADCHECKD_SCHEDULER"] == address
    assert address in get_container(WORKER)["command"]
    assert ports[published["targetPort"]] == published["port"]
    assert f"--port={ports['scheduler']}" in get_container(SCHEDULER)["command"]
    assert f"--dashboard-address=:{ports['health']}" in get_container(SCHEDULER)["command"]
    for option, port in {"worker-port=": "worker", "nanny-port=": "nanny", "dashboard-address=:": "health"}.items():
        number = {each["name"]: each["containerPort"] for each in get_container(WORKER)["ports"]}[port]
        assert f"--{option}{number}" in get_container(WORKER)["command"]


def test_addresses_of_compose_agree() -> None:
    profile = files.read_environment_file()
    command = COMPOSE["scheduler"]["command"]
    assert profile["GRADCHECKD_SCHEDULER"] == f"tcp://scheduler:{command[command.index('--port') + 1]}"
    assert profile["GRADCHECKD_SCHEDULER"] in COMPOSE["worker"]["command"]
    user, host = re.fullmatch(r"postgresql\+psycopg://(\w+)@(\w+)/\1", profile["GRADCHECKD_JOBS_URL"]).groups()  # type: ignore[union-attr]
    assert COMPOSE[host]["environment"]["POSTGRES_USER"] == user
    for name in ("scheduler", "worker"):
        (port,) = re.findall(r"127\.0\.0\.1:(\d+)/health", COMPOSE[name]["healthcheck"]["test"][-1])
        assert any(argument.endswith(f":{port}") for argument in COMPOSE[name]["command"])


@pytest.mark.parametrize("name", [SCHEDULER, WORKER])
def test_ports_that_are_probed_are_there_and_the_image_is_that_of_the_service(name: str) -> None:
    container = get_container(name)
    ports = {port["name"] for port in container["ports"]}
    probes = [container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")]
    assert all(probe == {"path": "/health", "port": "health"} for probe in probes)
    assert "health" in ports
    assert container["image"] == files.get_container()["image"] == COMPOSE["scheduler"]["image"]
    assert COMPOSE["worker"]["image"] == COMPOSE["gradcheckd"]["image"]


def list_references(pod: files.Document) -> set[tuple[str, str]]:
    """Return the maps and secrets that a pod names."""
    (container,) = pod["containers"]
    sources = [item for source in container.get("envFrom", []) for item in source.items()]
    volumes = [
        ("secretRef", {"name": volume["secret"]["secretName"]}) for volume in pod["volumes"] if "secret" in volume
    ]
    return {(kind, reference["name"]) for kind, reference in (*sources, *volumes)}


def test_maps_and_secrets_that_are_named_are_made() -> None:
    made = {("configMapRef", "gradcheckd-cluster")}
    text = (files.ROOT / "docs" / "jobs.md").read_text()
    made |= {("secretRef", name) for name in re.findall(r"kubectl create secret generic ([\w-]+)", text)}
    for pod in (files.get_pod(), get_pod(SCHEDULER), get_pod(WORKER)):
        assert list_references(pod) <= made
    assert list_references(files.get_pod()) == made
    keys = set(re.findall(r"--from-file=(\S+)", text))
    paths = [value for value in CONFIGURATION.values() if value.startswith("/")]
    assert {path.removeprefix("/tls/") for path in paths} == keys
    for pod in (files.get_pod(), get_pod(SCHEDULER), get_pod(WORKER)):
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mounts["/tls"]]
        assert volume["secret"]["secretName"] == "gradcheckd-tls"
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"], "who may read the key"


def selects(selector: Mapping[str, Any], name: str) -> bool:
    """Return whether a selector selects the pods of a name."""
    labels = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    key = "app.kubernetes.io/name"
    assert all(expression["key"] == key and expression["operator"] == "In" for expression in expressions)
    return labels.get(key, name) == name and all(name in expression["values"] for expression in expressions)


def is_open(rules: Iterable[Mapping[str, Any]], side: str, other: str, port: str | int) -> bool:
    """Return whether one of the rules of a policy opens a port to the pods of a name, or to everyone."""
    return any(
        any(entry["port"] == port for entry in rule["ports"])
        and (
            side not in rule
            or any("podSelector" in peer and selects(peer["podSelector"], other) for peer in rule[side])
        )
        for rule in rules
    )


def can_connect(policies: Iterable[files.Document], source: str, target: str, port: str | int) -> bool:
    """Return whether the pods of one name may open a connection to those of another one."""
    specs = [policy["spec"] for policy in policies]
    out = [spec for spec in specs if selects(spec["podSelector"], source) and "Egress" in spec["policyTypes"]]
    into = [spec for spec in specs if selects(spec["podSelector"], target) and "Ingress" in spec["policyTypes"]]
    return any(is_open(spec["egress"], "to", target, port) for spec in out) and any(
        is_open(spec["ingress"], "from", source, port) for spec in into
    )


CONNECTIONS = {
    (SERVICE, SCHEDULER, "scheduler"),
    (WORKER, SCHEDULER, "scheduler"),
    (SCHEDULER, WORKER, "worker"),
    (SCHEDULER, WORKER, "nanny"),
    (WORKER, WORKER, "worker"),
}


def list_connections(policies: list[files.Document]) -> set[tuple[str, str, str]]:
    ports = {SCHEDULER: ("scheduler", "health"), WORKER: ("worker", "nanny", "health"), SERVICE: ("http",)}
    return {
        (source, target, port)
        for source in ports
        for target, names in ports.items()
        for port in names
        if can_connect(policies, source, target, port)
    }


def test_nobody_else_reaches_the_cluster() -> None:
    policies = [
        manifest
        for manifest in (*files.load_manifests(), *files.load_cluster_manifests())
        if manifest["kind"] == "NetworkPolicy"
    ]
    assert list_connections(policies) == CONNECTIONS
    opened = copy.deepcopy(policies)
    opened[1]["spec"]["ingress"][0]["from"] = [{"podSelector": {}}]
    opened[-1]["spec"]["egress"][0]["ports"][0]["port"] = "health"
    assert (SERVICE, SCHEDULER, "scheduler") not in list_connections(opened)
    named = {port["name"] for name in (SCHEDULER, WORKER) for port in get_container(name)["ports"]}
    used = {
        entry["port"]
        for policy in policies[1:]
        for side in ("ingress", "egress")
        for rule in policy["spec"].get(side, [])
        for entry in rule["ports"]
    }
    assert used == named | {53, 5432}


def test_the_autoscaler_scales_the_workers_and_leaves_room_for_a_disruption() -> None:
    scaler = files.find_cluster_manifest("HorizontalPodAutoscaler", WORKER)["spec"]
    worker = files.find_cluster_manifest("Deployment", WORKER)
    target = scaler["scaleTargetRef"]
    assert [target["apiVersion"], target["kind"], target["name"]] == [
        worker["apiVersion"], worker["kind"], worker["metadata"]["name"],
    ]  # fmt: skip
    assert "replicas" not in worker["spec"]
    disruption = files.find_cluster_manifest("PodDisruptionBudget", WORKER)["spec"]
    assert scaler["minReplicas"] > disruption["maxUnavailable"]
    assert get_container(WORKER)["resources"]["requests"]["cpu"] == "1", "a worker computes on one thread"
