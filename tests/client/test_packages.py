"""What the packages bring: the client no torch and no service, the service its pages and its configuration."""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parents[2]
SITE_PACKAGES = next(path for path in map(Path, sys.path) if path.name == "site-packages")


def build_wheel(source: Path, files: list[str], place: Path) -> Path:
    """Build a wheel of a copy, so that nothing is left in the tree; the tools of packaging are those of this Python."""
    copy = place / "source"
    for path in sorted({path for pattern in files for path in source.glob(pattern) if path.is_file()}):
        if "__pycache__" not in path.parts:
            target = copy / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    code = "import setuptools.build_meta as b; print(b.build_wheel('..'))"
    # Not measured, and not by what else is on the way: the copy is no part of what is tested.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHONPATH"))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = ["pyproject.toml", "README.md", "LICENSE", "gradcheckd/**/*"]
    return build_wheel(ROOT / "client", files, tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def environment_bin(client_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin of an environment with the client, and with what it depends on."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    with zipfile.ZipFile(client_wheel) as archive:
        archive.extractall(packages)
    # What it depends on is not fetched, but seen where it is; what it must do without is hidden.
    (packages / "shared.pth").write_text(f"{SITE_PACKAGES}\n")
    (packages / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('torch', 'flask', 'service', 'schemas', 'pydantic', 'safetensors', 'jax', 'scipy'):\n"
        "    sys.modules[name] = None\n"
    )
    return place / "bin"


def read_metadata(wheel: Path) -> tuple[dict[str, list[str]], set[str], str]:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        message = message_from_string(archive.read(about).decode())
        points = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    return {name: message.get_all(name, []) for name in message}, names, "".join(points)


def test_the_client_depends_on_four_packages_and_has_a_command_and_a_plugin(client_wheel: Path) -> None:
    about, names, points = read_metadata(client_wheel)
    assert (about["Name"], about["License-Expression"]) == (["gradcheckd"], ["MIT"])
    needed = sorted(
        requirement.partition(">")[0] for requirement in about["Requires-Dist"] if "extra ==" not in requirement
    )
    assert needed == ["httpx", "numpy", "rich", "wrapt"]
    assert "torch" in about["Provides-Extra"]
    assert "[pytest11]\ngradcheckd = gradcheckd.pytest_plugin\ngradcheckd_suite = gradcheckd.suite_plugin" in points
    assert "gradcheckd = gradcheckd.command:run" in points
    assert {"gradcheckd/py.typed", "gradcheckd/page/page.css", "gradcheckd/command/main.py"} <= names
    assert not [name for name in names if not name.startswith("gradcheckd")]


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_both_packages_carry_the_same_license() -> None:
    assert (ROOT / "client" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_client_works_without_torch_and_without_the_service(environment_bin: Path, url: str, tmp_path: Path) -> None:
    code = (
        "import gradcheckd, numpy as np\n"
        f"r = gradcheckd.check(url={url!r}, weights={{'w': np.ones(2)}}, "
        "model=[{'name': 'l', 'op': 'sum', 'inputs': ['w']}])\n"
        "from gradcheckd.page import render_page\n"
        "render_page(r)\n"
        "print(r.outcome, gradcheckd.__version__)\n"
    )
    done = run(str(environment_bin / "python"), "-c", code, cwd=tmp_path)
    assert done.stdout == "pass 0.1.0\n", done.stderr


def test_client_installs_alone_with_command_and_plugin(environment_bin: Path, tmp_path: Path) -> None:
    python = str(environment_bin / "python")
    entry = "from importlib.metadata import entry_points as e; e(group='console_scripts')['gradcheckd'].load()()"
    done = run(python, "-c", entry, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("usage: gradcheckd")
    (tmp_path / "test_mine.py").write_text("def test_mine(gradcheckd): pass\n")
    done = run(
        python, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "-p", "no:schemathesis", "test_mine.py", cwd=tmp_path
    )
    assert "1 skipped" in done.stdout, done.stdout + done.stderr
    assert "no service is installed here" in done.stdout


def test_serving_where_there_is_no_service_says_how_to_get_one(environment_bin: Path, tmp_path: Path) -> None:
    done = run(str(environment_bin / "python"), "-m", "gradcheckd", "serve", cwd=tmp_path)
    assert done.returncode == 3
    for way in ("pip install .", "make serve", "docker run"):
        assert way in done.stderr


def test_the_service_comes_with_its_pages_and_its_configuration(tmp_path: Path) -> None:
    files = [
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "NOTICE",
        "requirements.txt",
        "service/**/*",
        "schemas/**/*",
        "tests/*.py",
    ]
    about, names, _ = read_metadata(build_wheel(ROOT, files, tmp_path))
    assert (about["Name"], about["License-Expression"]) == (["gradcheckd-service"], ["MIT"])
    assert about["License-File"] == ["LICENSE", "NOTICE"]
    needed = {
        re.split("[<>=]", requirement)[0] for requirement in about["Requires-Dist"] if "extra ==" not in requirement
    }
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert needed == {re.split("[<>=]", requirement)[0] for requirement in declared}
    kept = {name for name in names if ".dist-info/" not in name}
    ours = {
        str(path.relative_to(ROOT))
        for package in ("service", "schemas")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert kept == ours
    assert {"service/gunicorn/config.py", "service/page/index.html", "service/page/vendor/uplot/uPlot.js"} <= kept
