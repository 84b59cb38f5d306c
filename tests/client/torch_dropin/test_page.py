"""The page on suites of torch shows what its code prints."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradcheckd.torch import gradcheck, gradgradcheck
from tests.client.torch_dropin.test_parameters import list_parameters

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "torch.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.long
def test_suite_of_the_page_has_its_first_finding(tmp_path: Path) -> None:
    (tmp_path / "test_layers.py").write_text(BLOCKS[0])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADCHECKD")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "client"), str(ROOT)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "gradcheckd.suite_plugin"]
    for options, outcome in (([], "1 passed"), (["--gradcheckd"], "1 failed")):
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert outcome in done.stdout, done.stdout
    (shown,) = re.findall(r"```console\n\$ pytest --gradcheckd\n(.*?)```", PAGE, re.DOTALL)
    for line in shown.splitlines():
        assert line.removeprefix("E   ") in done.stdout


def test_documented_calls_print_their_documented_output(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[1], "torch.md", "exec"), names)
    (printed,) = re.findall(r"```\n\n```console\n(True.*?)```", PAGE, re.DOTALL)
    assert capsys.readouterr().out == printed


def test_table_has_every_parameter() -> None:
    (table,) = re.findall(r"\| parameter \|.*?\n\n", PAGE, re.DOTALL)
    listed = re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if row))
    parameters = {name for check in (gradcheck, gradgradcheck) for name, *_ in list_parameters(check)}
    assert sorted(listed) == sorted(parameters)
