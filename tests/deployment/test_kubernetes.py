"""deploy/kubernetes.yaml: valid by Kubernetes' own schemas, and what runs is locked down, watched and spread."""

from collections.abc import Callable

import kubernetes_validate
import pytest

from tests.deployment import files

VERSION = "1.37"
KINDS = ["Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"]


def validate(document: files.Document) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_is_valid(kind: str) -> None:
    validate(files.find_manifest(kind))


def test_manifests_are_exactly_of_the_expected_kinds() -> None:
    assert [manifest["kind"] for manifest in files.load_manifests()] == KINDS


def _add_unknown_field(document: files.Document) -> None:
    document["spec"]["replica"] = 2


def _set_wrong_type(document: files.Document) -> None:
    document["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "8000"


def _set_environment_number(document: files.Document) -> None:
    document["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = 2


def _misspell_nested_field(document: files.Document) -> None:
    document["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True


def _remove_selector(document: files.Document) -> None:
    del document["spec"]["selector"]


@pytest.mark.parametrize(
    "plant", [_add_unknown_field, _set_wrong_type, _set_environment_number, _misspell_nested_field, _remove_selector]
)
def test_a_planted_mistake_is_found(plant: Callable[[files.Document], None]) -> None:
    document = files.find_manifest("Deployment")
    plant(document)
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(document)


def test_the_container_is_locked_down() -> None:
    pod, context = files.get_pod(), files.get_container()["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"], "a Service gradcheckd sets GRADCHECKD_PORT and others"
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_writable_volumes_exist_and_metrics_are_in_memory() -> None:
    volumes = {volume["name"]: volume for volume in files.get_pod()["volumes"]}
    mounts = files.get_container()["volumeMounts"]
    mounted = {
        mount["mountPath"]: volumes[mount["name"]]["emptyDir"] for mount in mounts if not mount.get("readOnly", False)
    }
    assert set(mounted) == {"/tmp", "/dev/shm"}
    assert mounted["/dev/shm"]["medium"] == "Memory"
    assert all("sizeLimit" in volume for volume in mounted.values())


def test_selectors_match_the_pods() -> None:
    labels = files.find_manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    spread = [constraint["labelSelector"]["matchLabels"] for constraint in files.get_pod()["topologySpreadConstraints"]]
    assert [
        files.find_manifest("Deployment")["spec"]["selector"]["matchLabels"],
        files.find_manifest("Service")["spec"]["selector"],
        files.find_manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        files.find_manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *spread,
    ] == [labels] * 6


def test_the_autoscaler_scales_the_deployment_and_leaves_room_for_a_disruption() -> None:
    deployment, scaler = files.find_manifest("Deployment"), files.find_manifest("HorizontalPodAutoscaler")["spec"]
    target = scaler["scaleTargetRef"]
    assert [target["apiVersion"], target["kind"]] == [deployment["apiVersion"], deployment["kind"]]
    assert target["name"] == deployment["metadata"]["name"]
    # A number of replicas here would undo the autoscaler's at every deployment.
    assert "replicas" not in deployment["spec"]
    assert scaler["minReplicas"] > files.find_manifest("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert "cpu" in files.get_container()["resources"]["requests"], "of which the autoscaler's target is a part"
