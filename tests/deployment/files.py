"""What is deployed, as it stands in the files."""

import re
import tomllib
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


def load_manifests() -> list[Document]:
    return list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text()))


def find_manifest(kind: str) -> Document:
    (manifest,) = [document for document in load_manifests() if document["kind"] == kind]
    return manifest


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
