"""compose.yaml: it has the keys of a compose file and no others, and what runs is locked down."""

import copy
from typing import Any

import jsonschema
import pytest

from tests.deployment import files

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
TABLE = {"type": "object", "additionalProperties": TEXT}


def make_object_schema(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object of these keys; a key that is misspelled would do nothing, and nobody would know."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


SERVICE = make_object_schema(
    {
        "image": TEXT,
        "build": make_object_schema({"context": TEXT, "args": TABLE}, "context"),
        "profiles": TEXTS,
        "entrypoint": TEXTS,
        "command": TEXTS,
        "environment": TABLE,
        "user": {"type": "string", "pattern": r"^[1-9]\d*:[1-9]\d*$"},
        "read_only": {"const": True},
        "tmpfs": TEXTS,
        "shm_size": TEXT,
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "mem_limit": TEXT,
        "memswap_limit": TEXT,
        "cpus": NUMBER,
        "pids_limit": NUMBER,
        "stop_grace_period": TEXT,
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "healthcheck": make_object_schema(
            {"test": TEXTS, "interval": TEXT, "timeout": TEXT, "start_period": TEXT, "retries": NUMBER}, "test"
        ),
        "depends_on": {"type": "object", "additionalProperties": make_object_schema({"condition": TEXT}, "condition")},
        "ports": TEXTS,
        "volumes": TEXTS,
        "networks": TEXTS,
    },
    "image", "user", "read_only", "tmpfs", "cap_drop", "security_opt", "mem_limit", "pids_limit",
)  # fmt: skip
SCHEMA = make_object_schema(
    {
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": make_object_schema({})},
        "networks": {"type": "object", "additionalProperties": make_object_schema({"internal": {"type": "boolean"}})},
    },
    "services",
)


def test_compose_file_satisfies_the_locked_down_schema() -> None:
    jsonschema.validate(files.load_compose(), SCHEMA)


PLANTED: dict[str, dict[str, Any]] = {
    "a key that is misspelled": {"read-only": True},
    "root": {"user": "0:0"},
    "a writable file system": {"read_only": False},
    "a capability": {"cap_drop": ["NET_RAW"]},
    "a number for a text": {"environment": {"WEB_CONCURRENCY": 2}},
}


@pytest.mark.parametrize("change", PLANTED.values(), ids=PLANTED)
def test_a_planted_mistake_is_found(change: dict[str, Any]) -> None:
    document = copy.deepcopy(files.load_compose())
    document["services"]["gradcheckd"] |= change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


@pytest.mark.parametrize("key", SERVICE["required"])
def test_a_lock_that_is_left_out_is_found(key: str) -> None:
    document = copy.deepcopy(files.load_compose())
    del document["services"]["proxy"][key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_only_the_proxy_is_published_and_the_service_reaches_nobody() -> None:
    document = files.load_compose()
    published = {name for name, service in document["services"].items() if "ports" in service}
    outside = {name for name, network in document["networks"].items() if not (network or {}).get("internal")}
    reaching = {name for name, service in document["services"].items() if outside & set(service["networks"])}
    assert (published, outside, reaching) == ({"proxy"}, {"outside"}, {"proxy"})


def test_who_shares_a_network_with_the_cluster_or_the_database() -> None:
    services = files.load_compose()["services"]
    members = {
        network: {name for name, service in services.items() if network in service["networks"]}
        for network in ("cluster", "database")
    }
    assert members == {
        "cluster": {"gradcheckd", "scheduler", "worker"},
        "database": {"gradcheckd", "postgres"},
    }
