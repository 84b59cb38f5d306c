"""The page on functions with several outputs shows what its code prints."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.client.page_blocks import run_blocks

PATH = Path(__file__).parents[2] / "docs" / "python-functions.md"
PAGE = PATH.read_text()


def test_documented_blocks_print_their_documented_output(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", url)
    assert run_blocks(PATH, capsys) == 3


def test_each_remedy_of_the_page_passes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", url)
    for wrong, right, outcome in (
        ("2 * z * dmean)", "2 * z * dmean / z.size)", "pass"),
        ("(np.cos(x) - np.cos(x[::-1]))", "(np.cos(x) + np.cos(x[::-1]))", "pass"),
    ):
        assert PAGE.count(wrong) == 1
        (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if wrong in block]
        names: dict[str, Any] = {}
        exec("import gradcheckd\nimport numpy as np\n" + code.replace(wrong, right), names)
        assert names["report"].outcome == outcome
