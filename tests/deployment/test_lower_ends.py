"""The lower ends of the ranges of dependencies work, and every package that is imported is declared."""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.deployment.files import ROOT

pytestmark = pytest.mark.no_cover
PACKAGES = {
    "service": (ROOT / "pyproject.toml", ("service", "schemas")),
    "client": (ROOT / "client" / "pyproject.toml", ("client/gradcheckd",)),
}
OWN = {"service", "schemas", "gradcheckd"}
OPTIONAL = {"pytest"}
"""The plugin of the client is loaded by pytest alone."""
EXAMPLE = """
import json, gradcheckd
from service.app import create_app
example = json.load(open("examples/wrong_sign.json"))
client = create_app().test_client()
right = client.post("/v1/check", json=json.load(open("examples/reference.json"))).json
print(json.dumps([right["outcome"], right["loss"], client.post("/v1/check", json=example).json["outcome"]]))
"""


def read_ranges(file: Path) -> dict[str, str]:
    """The lower end of each dependency, by its name."""
    declared = tomllib.loads(file.read_text())["project"]["dependencies"]
    matches = [re.fullmatch(r"([\w-]+)>=([\w.]+)(,<[\w.]+)?", requirement) for requirement in declared]
    assert all(matches), declared
    return {match[1]: match[2] for match in matches if match}


def read_extras(file: Path) -> set[str]:
    """The packages of the extras."""
    extras = tomllib.loads(file.read_text())["project"].get("optional-dependencies", {})
    requirements = [requirement for extra in extras.values() for requirement in extra]
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}  # type: ignore[index]


def list_imports(*folders: str) -> set[str]:
    """Top-level names of all imported modules that are neither ours nor the standard library's."""
    names = set[str]()
    for file in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    tops = {name.split(".")[0] for name in names}
    return tops - OWN - OPTIONAL - set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_imported_package_is_declared(package: str) -> None:
    file, folders = PACKAGES[package]
    distributions = packages_distributions()
    imported = {distributions[name][0].lower().replace("_", "-") for name in list_imports(*folders)}
    declared = set(read_ranges(file)) - {"annotated-types"} | read_extras(file)
    assert imported - {"pydantic-core"} == declared | (imported & {"annotated-types"})


def test_the_pins_of_a_deployment_lie_in_the_ranges() -> None:
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    ranges = read_ranges(ROOT / "pyproject.toml")
    assert set(pins) == set(ranges)

    def order(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    assert all(order(pins[name]) >= order(low) for name, low in ranges.items())


@pytest.mark.installs
def test_the_reference_example_runs_with_the_lower_ends(tmp_path: Path) -> None:
    """torch is the pinned one, as older builds for the CPU alone are not in every index."""
    lows = read_ranges(ROOT / "client" / "pyproject.toml") | read_ranges(ROOT / "pyproject.toml")
    venv.create(tmp_path / "lower", with_pip=False)
    site = tmp_path / "lower" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    pins = [f"{name}=={version}" for name, version in lows.items() if name != "torch"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*pip, *pins], check=True)
    # Behind the lower ends, so that only torch and what it needs come from there.
    (site / "torch.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
    answer = subprocess.run(
        [str(tmp_path / "lower" / "bin" / "python"), "-c", f"import numpy; print(numpy.__version__){EXAMPLE}"],
        cwd=ROOT, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    version, report = answer.stdout.splitlines()
    assert version.startswith(lows["numpy"])
    loss = 2.3767862745225306
    assert json.loads(report) == ["pass", {"analytic": loss, "autograd": loss}, "fail"]
