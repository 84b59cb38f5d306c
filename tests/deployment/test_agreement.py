"""What stands in several files is the same in all of them: port, user, image, memory, times, names of settings."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from http import HTTPStatus

import pytest

from service.app import create_app
from service.settings import PREFIX, Settings
from tests.deployment import files

SERVICE = files.load_compose()["services"]["gradcheckd"]
ENVIRONMENT: Mapping[str, str] = {variable["name"]: variable["value"] for variable in files.get_container()["env"]}

OF_OTHERS = {"HOST", "PORT", "WEB_CONCURRENCY", "PGPASSWORD"}
"""Variables that gunicorn's configuration and PostgreSQL's library read themselves."""


def read_from_dockerfile(pattern: str) -> str:
    (match,) = re.findall(pattern, files.DOCKERFILE, re.MULTILINE)
    return match


def read_proxy_directive(directive: str) -> str:
    (match,) = re.findall(rf"^\s*{directive} (.*);$", files.PROXY_CONFIG, re.MULTILINE)
    return match


def test_port_agrees_everywhere() -> None:
    port = read_from_dockerfile(r"PORT=(\d+)")
    assert read_from_dockerfile(r"^EXPOSE (\d+)") == port
    assert [str(entry["containerPort"]) for entry in files.get_container()["ports"]] == [port]
    assert read_proxy_directive("proxy_pass") == f"http://gradcheckd:{port}"
    assert f"127.0.0.1:{port}/" in SERVICE["healthcheck"]["test"][-1]


def test_ports_that_are_named_are_there() -> None:
    (name,) = {port["name"] for port in files.get_container()["ports"]}
    probes = [
        files.get_container()[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "liveness", "readiness")
    ]
    service = [port["targetPort"] for port in files.find_manifest("Service")["spec"]["ports"]]
    policy = [port["port"] for port in files.find_manifest("NetworkPolicy")["spec"]["ingress"][0]["ports"]]
    assert {*probes, *service, *policy} == {name}


def test_the_proxy_is_published_where_it_listens() -> None:
    proxy = files.load_compose()["services"]["proxy"]
    assert [port.split(":")[-1] for port in proxy["ports"]] == [read_proxy_directive("listen")]
    assert proxy["volumes"] == ["./deploy/nginx.conf:/etc/nginx/nginx.conf:ro"]
    written = re.findall(r"^\s*(?:\w+_temp_path|pid) (\S+);$", files.PROXY_CONFIG, re.MULTILINE)
    assert len(written) == 6
    assert all(path.startswith("/tmp/") for path in written)


def test_user_agrees_everywhere() -> None:
    user = read_from_dockerfile(r"^USER (\d+)$")
    context = files.get_pod()["securityContext"]
    assert read_from_dockerfile(r"--uid (\d+)") == user
    assert SERVICE["user"] == f"{user}:{user}"
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == (user, user)


def test_image_name_agrees_everywhere() -> None:
    image = f"gradcheckd:{files.read_version()}"
    assert (SERVICE["image"], files.get_container()["image"]) == (image, image)


def test_memory_and_processors_agree_everywhere() -> None:
    limits = files.get_container()["resources"]["limits"]
    assert (
        files.parse_bytes(SERVICE["mem_limit"])
        == files.parse_bytes(SERVICE["memswap_limit"])
        == files.parse_bytes(limits["memory"])
    )
    assert str(SERVICE["cpus"]) == limits["cpu"] == ENVIRONMENT["WEB_CONCURRENCY"]


def test_running_requests_are_waited_for() -> None:
    # In a process of its own: what it sets in the environment is for that of the service, which it starts.
    asked = "from service.gunicorn import config; print(config.graceful_timeout)"
    graceful = int(subprocess.check_output([sys.executable, "-c", asked], cwd=files.ROOT))
    assert graceful > Settings().max_seconds
    assert files.parse_seconds(SERVICE["stop_grace_period"]) > graceful
    pause = files.get_container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert files.get_pod()["terminationGracePeriodSeconds"] > graceful + pause
    assert files.parse_seconds(read_proxy_directive("proxy_read_timeout")) > graceful


def test_the_proxy_takes_what_the_service_takes_and_reads_it_first() -> None:
    binary = int(SERVICE["environment"]["GRADCHECKD_MAX_BINARY_BYTES"])
    assert files.parse_bytes(read_proxy_directive("client_max_body_size")) == max(Settings().max_body_bytes, binary)
    assert ENVIRONMENT["GRADCHECKD_MAX_BINARY_BYTES"] == str(binary)
    assert read_proxy_directive("proxy_request_buffering") == "on"


def are_known_settings(names: Iterable[str]) -> bool:
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    return set(names) <= settings | OF_OTHERS


def test_each_variable_of_a_deployment_is_a_setting() -> None:
    of_profile = {name: value for name, value in SERVICE["environment"].items() if "$" in value}
    assert SERVICE["environment"] == ENVIRONMENT | of_profile
    assert are_known_settings(SERVICE["environment"])
    assert not are_known_settings([*ENVIRONMENT, "GRADCHECKD_MAX_BYTE"])


def test_deployed_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert Settings().max_bytes == int(ENVIRONMENT["GRADCHECKD_MAX_BYTES"])


def test_probed_paths_answer() -> None:
    probed = [
        files.get_container()[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")
    ]
    checked = re.findall(r"127\.0\.0\.1:[^/]+(/[\w/]+)", files.DOCKERFILE + SERVICE["healthcheck"]["test"][-1])
    assert len(checked) == 2
    for path in {*probed, *checked}:
        assert create_app().test_client().get(path).status_code == 200


def test_the_image_is_started_by_the_command_that_the_readme_and_the_makefile_have() -> None:
    command = json.loads(read_from_dockerfile(r"^CMD (\[.*\])$"))
    assert command == ["gunicorn", "--config", "python:service.gunicorn.config", "service.app:create_app()"]


def test_the_errors_of_the_proxy_have_titles() -> None:
    caught = re.findall(r"^\s*error_page ([\d =]+) /\.problem;$", files.PROXY_CONFIG, re.MULTILINE)
    said = [code.removeprefix("=") for line in caught for code in line.split() if code != "494"]
    titles = dict(re.findall(r'^\s*(\d{3}) "(.*)";$', files.PROXY_CONFIG, re.MULTILINE))
    assert sorted(titles) == sorted(said)
    assert titles == {code: HTTPStatus(int(code)).phrase for code in titles} | {
        "413": "Content Too Large",
        "414": "URI Too Long",
    }
