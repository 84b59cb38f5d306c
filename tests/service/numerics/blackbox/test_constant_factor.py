import numpy as np
import pytest

from service.numerics.blackbox.constant_factor import diagnose_factor

D = np.array([0.3, -1.1, 2.0, 0.7])
ALLOWED = np.full(4, 1e-9)

KNOWN = {
    -1.0: "-1 times",
    2.0: "2 times",
    0.5: "1/2 times",
    -32.0: "-32 times",
    1 / 3: "1/3 times",
    1.2345: "1.2345 times",
    1 + 1e-6: "(1 + 1e-06) times",
    1e-6 - 1: "-(1 - 1e-06) times",
}


@pytest.mark.parametrize(("factor", "words"), KNOWN.items())
def test_constant_factor_is_found(factor, words):
    factor_diagnosis = diagnose_factor(D, factor * D, ALLOWED)
    assert factor_diagnosis.bug_name == ("sign_flipped" if factor == -1 else "scaled")
    assert f"The candidate is {words}" in factor_diagnosis.explanation
    assert factor_diagnosis.relative_residual < 1e-8


def test_no_factor_is_made_up():
    assert diagnose_factor(D, D[::-1], ALLOWED) is None
    assert diagnose_factor(D[:1], 2 * D[:1], ALLOWED[:1]) is None, "one direction fits any"
    assert diagnose_factor(D, 2 * D, np.full(4, 0.1)) is None, "nor is much known here"
    assert diagnose_factor(D, np.full(4, np.nan), ALLOWED) is None
    assert diagnose_factor(0 * D, D, ALLOWED) is None


@pytest.mark.parametrize("factor", [1e-200, 1e-300, 1e200])
def test_factor_of_any_size_is_found(factor):
    assert f"The candidate is {factor:g} times" in diagnose_factor(D, factor * D, ALLOWED).explanation
    assert f"The candidate is {1 / factor:.6g} times" in diagnose_factor(factor * D, D, factor * ALLOWED).explanation


def test_tiny_gradient_has_no_factor():
    assert diagnose_factor(1e300 * D, 1e-300 * D, 1e300 * ALLOWED) is None
    assert diagnose_factor(D, np.array([5e-324, 0, 0, 0]), ALLOWED) is None


def test_zero_candidate_is_named_detached():
    assert diagnose_factor(D, 0 * D, ALLOWED).bug_name == "detached"
