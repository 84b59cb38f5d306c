"""The boundaries of the architecture hold, and the contracts that say so can fail."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parents[1]


def list_imported_modules(statement: str) -> set[str]:
    """Top-level modules in memory after a statement, in a process of its own."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(process.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import service.checks.graph.check", {"torch", "flask", "werkzeug"}),
        ("import service.checks.curve", {"torch", "flask", "werkzeug"}),
        ("import service.checks.kinds", {"torch", "scipy", "flask", "werkzeug"}),
        ("import service.app", {"torch", "scipy", "structlog"}),
        ("import service.rendering", {"torch", "flask", "werkzeug"}),
        (
            "import service.numerics.verdict.elementwise, service.numerics.ops",
            {"torch", "flask", "pydantic", "schemas"},
        ),
        (
            "import service.helper_processes.child, service.numerics.gradients.finite_difference",
            {"torch", "flask", "pydantic", "schemas"},
        ),
        (
            "import schemas.check, schemas.curve, schemas.safetensors_body, schemas.progress",
            {"torch", "flask", "werkzeug", "service"},
        ),
        (
            "import gradcheckd, gradcheckd.command, gradcheckd.pytest_plugin, gradcheckd.suite_plugin",
            {"torch", "jax", "scipy", "flask", "pydantic", "service", "schemas", "safetensors"},
        ),
    ],
)
def test_an_import_brings_no_more_than_it_needs(statement: str, absent: set[str]) -> None:
    assert list_imported_modules(statement) & absent == set()


@pytest.mark.long
def test_the_probe_sees_torch_where_it_is() -> None:
    assert "torch" in list_imported_modules(
        "import service.checks.graph.check as c, json; c.check(json.load(open('examples/reference.json')))"
    )


def _check_contracts(root: Path) -> str:
    """What is said of contracts that do not hold, or nothing."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--config", "pyproject.toml"]
    # The copy of the client, not the one that is installed; and no line is to be broken.
    environment = os.environ | {"PYTHONPATH": str(root / "client"), "COLUMNS": "1000"}
    process = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
    return process.stdout if process.returncode else ""


PLANTED = [
    ("service/numerics/core/batching.py", "import flask"),
    ("service/http/middleware/concurrency.py", "import service.gunicorn.worker"),
    ("service/numerics/model/graph.py", "import schemas.tensor"),
    ("service/numerics/model/graph.py", "import service.checks.graph.check"),
    ("service/checks/graph/check.py", "import torch"),
    ("service/checks/graph/check.py", "import flask"),
    ("service/checks/curve.py", "import flask"),
    ("service/checks/curve.py", "import service.checks.bugs"),
    ("service/numerics/gradients/step_curve.py", "import schemas.curve"),
    ("service/checks/graph/report.py", "import service.rendering.sections"),
    ("service/checks/common/limits.py", "import service.checks.common.check_kind"),
    ("service/checks/curve.py", "import service.checks.kinds"),
    ("service/http/routes/catalogue.py", "import service.http.routes.checks"),
    ("service/checks/graph/element.py", "import service.checks.graph.report"),
    ("service/checks/graph/model_language.py", "import service.checks.graph.report"),
    ("service/rendering/text.py", "import service.rendering.markdown"),
    ("service/rendering/verdict_sections.py", "import service.rendering.sections"),
    ("service/rendering/number_format.py", "import service.numerics.verdict.outcome"),
    ("service/rendering/sections.py", "import service.checks.graph.model_language"),
    ("service/rendering/text.py", "import flask"),
    ("schemas/tensor.py", "import service"),
    ("client/gradcheckd/wire.py", "import schemas.safetensors_body"),
    ("client/gradcheckd/local.py", "import service.gunicorn.config"),
    ("client/gradcheckd/arrays.py", "import torch"),
    ("client/gradcheckd/arrays.py", "import jax"),
    ("client/gradcheckd/service.py", "import gradcheckd.torch"),
    ("client/gradcheckd/service.py", "import gradcheckd.jax"),
    ("client/gradcheckd/arrays.py", "import scipy"),
    ("client/gradcheckd/service.py", "import gradcheckd.scipy"),
    ("client/gradcheckd/wire.py", "import gradcheckd.connection"),
    ("client/gradcheckd/torch/torch_internals.py", "import gradcheckd.torch.gradient_checkers"),
    ("service/rendering/text.py", "import gradcheckd"),
    ("service/numerics/gradients/analytic.py", "import service.numerics.gradients.autograd"),
    ("service/checks/blackbox/parse.py", "import service.checks.blackbox.plan"),
    ("service/http/metrics.py", "import service.http.middleware.auth"),
    ("service/http/routes/pages.py", "import service.http.routes.health"),
    ("service/http/middleware/cors.py", "import service.http.middleware.auth"),
    ("service/http/body/json_parser.py", "import service.http.body.request_body"),
    ("service/http/response/problem_details.py", "import service.http.response.responses"),
    ("service/gunicorn/worker.py", "import service.gunicorn.config"),
    ("service/numerics/core/batching.py", "import service.numerics.model.graph"),
    ("service/numerics/core/batching.py", "import service.numerics.core.sparsity"),
    ("service/numerics/model/presets.py", "import service.numerics.model.rounding"),
    (
        "service/numerics/gradients/finite_difference/method.py",
        "import service.numerics.gradients.finite_difference.engine",
    ),
    ("service/numerics/ties/weight_fit.py", "import service.numerics.ties.nested_search"),
    ("service/numerics/diagnosis/matching.py", "import service.numerics.diagnosis.diagnose"),
    ("service/numerics/diagnosis/bugs/shift.py", "import service.numerics.diagnosis.bugs.clipping"),
    ("service/numerics/verdict/metrics.py", "import service.numerics.verdict.elementwise"),
    ("service/numerics/blackbox/noise.py", "import service.numerics.blackbox.lines"),
    ("service/numerics/ops/windows.py", "import service.numerics.ops.conv"),
    ("service/helper_processes/child.py", "import service.helper_processes.pool"),
    ("service/checks/importing/values.py", "import service.checks.importing.graph_writer"),
    ("service/checks/importing/operators/shape.py", "import service.checks.importing.operators.windows"),
    ("service/jobs/owner.py", "import service.jobs.records"),
    ("service/job_runner/execute.py", "import service.job_runner.main"),
    ("client/gradcheckd/torch/module_errors.py", "import gradcheckd.torch.module_check"),
]


def _copy_sources(tmp_path: Path) -> Path:
    packages = ("service", "schemas", "client/gradcheckd")
    for source in [ROOT / "pyproject.toml", *(path for package in packages for path in (ROOT / package).rglob("*.py"))]:
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    return tmp_path


@pytest.mark.long
def test_import_contracts_hold(tmp_path: Path) -> None:
    assert _check_contracts(_copy_sources(tmp_path)) == ""


@pytest.fixture(scope="module")
def broken_contracts(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = _copy_sources(tmp_path_factory.mktemp("planted"))
    for module, line in PLANTED:
        with (root / module).open("a") as file:
            file.write(f"\n{line}\n")
    return _check_contracts(root)


@pytest.mark.parametrize(("module", "line"), PLANTED)
def test_a_planted_import_breaks_a_contract(broken_contracts: str, module: str, line: str) -> None:
    importer = module.removeprefix("client/").removesuffix(".py").replace("/", ".")
    imported = line.removeprefix("import ")
    assert f"{importer} -> {imported} (l." in broken_contracts


def test_every_contract_is_broken_by_a_planted_import(broken_contracts: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [contract["name"] for contract in contracts if f"{contract['name']} BROKEN" not in broken_contracts] == []


def test_every_package_is_tested_where_it_lies() -> None:
    """The tests mirror the packages: each module with code of its own has a test file."""
    plain = {"__init__.py"}
    exempt = {
        "schemas/bugs.py",  # types alone; tests/service/http/routes/test_openapi.py holds real answers against them
        "schemas/imports.py",  # types alone; tests/service/http/routes/test_importing.py posts real answers as requests
        "schemas/job.py",  # types alone; tests/service/http/routes/test_jobs.py holds real jobs against them
        "service/http/accepted_jobs.py",  # tests/service/http/routes/test_jobs.py, and the next one
        "service/http/middleware/job_access.py",
        "service/http/answers.py",  # tests/service/http/routes/test_checks.py and test_jobs.py get every form
        "service/job_runner/main.py",  # tests/service/http/routes/test_jobs.py runs it, and the next one
        "service/job_runner/start.py",
        "service/jobs/database.py",  # tests/service/jobs/test_records.py and test_queue.py, in both databases
        "service/jobs/job.py",  # records
        "service/jobs/job_service.py",  # tests/service/http/routes/test_jobs.py
        "service/jobs/tables.py",  # a table
        "schemas/progress.py",  # types alone; test_ndjson_stream.py holds real lines against them
        "schemas/report.py",  # types alone; tests/service/http/routes/test_openapi.py holds a real report against them
        "service/checks/common/stage_timer.py",
        "service/checks/common/check_kind.py",  # a record; see tests/service/http/routes/test_checks.py
        "service/gunicorn/config.py",  # every server of tests/integration runs with it
        "service/http/response/responses.py",
        "service/http/operations.py",
        "service/numerics/model/presets.py",  # every preset is posted by tests/service/http/routes/test_catalogue.py
        "service/numerics/core/difference.py",
    }
    missing = [
        str(source.relative_to(ROOT))
        for package in ("service", "schemas")
        for source in (ROOT / package).rglob("*.py")
        if source.name not in plain
        and str(source.relative_to(ROOT)) not in exempt
        and not (ROOT / "tests" / source.relative_to(ROOT).parent / f"test_{source.name}").exists()
    ]
    assert missing == []
