"""The code of a page of the documentation, and what it prints."""

import re
from pathlib import Path
from typing import Any

import pytest


def run_blocks(page: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Run each block of a page, hold what it prints against the block below it, and return the number of blocks."""
    text, names = page.read_text(), dict[str, Any]()
    blocks = re.findall(r"```python\n(.*?)```\n\n```console\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == text.count("```python")
    for code, printed in blocks:
        exec(compile(code, page.name, "exec"), names)  # with the names of the blocks before it
        assert capsys.readouterr().out == printed
    return len(blocks)
