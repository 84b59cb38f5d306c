"""What is deployed, as it stands in the files."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROXY_CONFIG = (ROOT / "deploy" / "nginx.conf").read_text()

Document = dict[str, Any]

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def load_compose() -> Document:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def load_manifests(file: str = "kubernetes.yaml") -> list[Document]:
    return list(yaml.safe_load_all((ROOT / "deploy" / file).read_text()))


def find_manifest(kind: str) -> Document:
    (manifest,) = [document for document in load_manifests() if document["kind"] == kind]
    return manifest


def load_cluster_manifests() -> list[Document]:
    return load_manifests("kubernetes-cluster.yaml")


def find_cluster_manifest(kind: str, name: str) -> Document:
    (manifest,) = [
        document
        for document in load_cluster_manifests()
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
    ]
    return manifest


def read_environment_file() -> dict[str, str]:
    """Variables of the profile `cluster` of the compose file."""
    lines = (ROOT / "deploy" / "cluster.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """Put variables into a text of the compose file, as compose does."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1]) or match[2], text)


def get_pod() -> Document:
    return find_manifest("Deployment")["spec"]["template"]["spec"]


def get_container() -> Document:
    (container,) = get_pod()["containers"]
    return container


def read_version() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def parse_bytes(text: str) -> int:
    """Bytes, as compose, nginx or Kubernetes write them."""
    (number, unit) = re.fullmatch(r"(\d+)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


def parse_seconds(text: str) -> int:
    return int(text.removesuffix("s"))
