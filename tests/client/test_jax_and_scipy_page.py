"""The page on the checkers of jax and scipy shows what its code prints."""

from pathlib import Path

import pytest

from tests.client.page_blocks import run_blocks

PATH = Path(__file__).parents[2] / "docs" / "jax-and-scipy.md"
PAGE = PATH.read_text()


def test_documented_blocks_print_their_documented_output(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", url)
    assert run_blocks(PATH, capsys) == 2


def test_the_distances_of_scipy_are_those_of_the_page() -> None:
    import numpy as np
    from scipy.optimize import check_grad, rosen, rosen_der

    x0 = np.array([1.2, -0.7, 0.4, 2.0])
    right, wrong = (check_grad(rosen, lambda x, factor=factor: rosen_der(x) * factor, x0) for factor in (1, 1 + 1e-7))
    assert (f"{right:.0e}", f"{wrong:.0e}") == ("3e-05", "1e-04")
    assert "scipy returns 3e-5 for the right gradient and 1e-4 for the\nwrong one" in PAGE
