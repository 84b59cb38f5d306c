"""The page on modules shows what its code prints."""

from pathlib import Path

import pytest

from tests.client.page_blocks import run_blocks

PAGE = Path(__file__).parents[3] / "docs" / "modules.md"


def test_code_of_the_page_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_blocks(PAGE, capsys) == 3
