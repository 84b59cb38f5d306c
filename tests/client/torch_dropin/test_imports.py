"""Only the replacements of torch's checkers import torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("module", ["gradcheckd", "gradcheckd.suite_plugin", "gradcheckd.suite_replacement"])
def test_package_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "client", check=True)


@pytest.mark.long
def test_replacements_import_torch() -> None:
    code = "import sys, gradcheckd.torch; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "client", check=True)
