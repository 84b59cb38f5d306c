"""The commands of the deployments run: a cluster over TLS, with certificates as the documents make them."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
import httpx
import pytest
from distributed import Client

from service.helper_processes.usable_cores import count_usable_cores
from service.job_runner.cluster import Cluster
from tests.deployment import files
from tests.deployment.test_cluster import COMPOSE, CONFIGURATION, SCHEDULER, WORKER, get_container
from tests.document_text import find_blocks

PATIENCE = 120.0


def pick_ports(count: int) -> list[int]:
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in with_sockets]
    for each in with_sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands of the documents make."""
    folder = tmp_path_factory.mktemp("certificates")
    (commands,) = find_blocks((files.ROOT / "docs" / "jobs.md").read_text(), "sh")
    subprocess.run(["bash", "-e", "-c", commands], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the image has of the repository."""
    folder = tmp_path_factory.mktemp("app")
    for line in files.DOCKERFILE.splitlines():
        if line.startswith("COPY ") and line.split()[1] == line.split()[2]:
            shutil.copytree(files.ROOT / line.split()[1], folder / line.split()[2])
    return folder


def replace_all(texts: Sequence[str], changes: Mapping[str, str]) -> list[str]:
    """Put paths and ports of this machine in the place of those of a deployment."""
    return [replace(text, changes) for text in texts]


def replace(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


@contextmanager
def run_process(
    command: Sequence[str], environment: Mapping[str, str], image: Path, directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of a deployment as the image would: from its folder, with nothing of the repository beside it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DASK", "GRAD"))}
    variables = inherited | {"HOME": str(directory), "TMPDIR": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable if word == "python" else word for word in command]
    with subprocess.Popen(command, cwd=image, env=variables | dict(environment), stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE)


def wait_until_healthy(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").text == "ok":
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError("it is not healthy")


def wait_for_workers(cluster: Cluster, expected: str | None) -> None:
    deadline = time.monotonic() + PATIENCE
    while (absence := cluster.describe_absence()) != expected:
        assert time.monotonic() < deadline, absence
        time.sleep(0.2)


def count_cores_there(address: str) -> int:
    """Call a function of the service on a worker, as a client with the certificate that dask is configured for."""
    with Client(address, timeout=PATIENCE, set_as_default=False) as client:
        return client.submit(count_usable_cores).result(PATIENCE)


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@contextmanager
def run_cluster(
    scheduler: Sequence[str],
    worker: Sequence[str],
    environment: Mapping[str, str],
    changes: Mapping[str, str],
    image: Path,
    directory: Path,
) -> Iterator[str]:
    """Run both commands, on ports of this machine, and yield the new address of the scheduler."""
    ports = dict(zip(("8786", "8787", "8788", "8789", "8790"), map(str, pick_ports(5)), strict=True))
    changes = {**changes, **ports}
    variables = {name: replace(value, changes) for name, value in environment.items()}
    before = list_files(image)
    with (
        run_process(replace_all(scheduler, changes), variables, image, directory) as first,
        run_process(replace_all(worker, changes), variables, image, directory) as second,
    ):
        wait_until_healthy(int(ports["8787"]), first)
        wait_until_healthy(int(ports["8790"]), second)
        # A page of the scheduler with the names of tasks.
        page = httpx.get(f"http://127.0.0.1:{ports['8787']}/info/main/workers.html", timeout=PATIENCE)
        assert page.status_code == 404
        (address,) = [word for word in replace_all(worker, changes) if "://" in word]
        yield address
    assert list_files(image) == before, "the file system is read-only"


def test_the_commands_of_kubernetes_make_a_cluster_over_tls(image: Path, certificates: Path, tmp_path: Path) -> None:
    changes = {"/tls/": f"{certificates}/", "tls://gradcheckd-scheduler": "tls://127.0.0.1"}
    commands = get_container(SCHEDULER)["command"], get_container(WORKER)["command"]
    with run_cluster(*commands, CONFIGURATION, changes, image, tmp_path) as address:
        variables = {name: replace(value, changes) for name, value in CONFIGURATION.items()}
        with dask.config.set(dask.config.merge(dask.config.global_config, dask.config.collect_env(variables))):
            assert count_cores_there(address) >= 1
        stranger = Cluster(address)
        assert stranger.describe_absence() == f"the scheduler {address} does not answer"
        stranger.close()
        plain = Cluster(address.replace("tls://", "tcp://"))
        assert plain.describe_absence() is not None, "nobody gets in without a certificate"
        plain.close()


def test_the_commands_of_compose_make_a_cluster(image: Path, tmp_path: Path) -> None:
    scheduler, worker = COMPOSE["scheduler"], COMPOSE["worker"]
    changes = {"tcp://scheduler": "tcp://127.0.0.1"}
    with run_cluster(
        scheduler["command"], worker["command"], worker["environment"], changes, image, tmp_path
    ) as address:
        assert count_cores_there(address) >= 1


def test_a_worker_without_a_certificate_is_refused(image: Path, certificates: Path, tmp_path: Path) -> None:
    changes = {"/tls/": f"{certificates}/", "tls://gradcheckd-scheduler": "tls://127.0.0.1"}
    ports = dict(zip(("8786", "8787"), map(str, pick_ports(2)), strict=True))
    variables = {name: replace(value, changes) for name, value in CONFIGURATION.items()}
    command = replace_all(get_container(SCHEDULER)["command"], ports)
    with run_process(command, variables, image, tmp_path) as scheduler:
        wait_until_healthy(int(ports["8787"]), scheduler)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{ports['8786']}"]
        with run_process([*worker, "--no-nanny", "--death-timeout=5"], {}, image, tmp_path) as process:
            assert process.wait(PATIENCE) != 0
        with dask.config.set(dask.config.merge(dask.config.global_config, dask.config.collect_env(variables))):
            cluster = Cluster(f"tls://127.0.0.1:{ports['8786']}")
            wait_for_workers(cluster, "the cluster has no workers")
            cluster.close()
