import mpmath
import numpy as np
import pytest

from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY

PAIRS = [(1e-8, 3.0), (-2.5, 1e-3), (1.5, 0.4), (700.0, 2.0), (-30.0, -31.0), (1e-150, 2e-150), (1e150, 1e150)]


def log_of_powers(base):
    return lambda a, b: mpmath.log(mpmath.mpf(base) ** a + mpmath.mpf(base) ** b, base)


def share_of_power(base):
    return lambda a, b: 1 / (1 + mpmath.mpf(base) ** (b - a))


EXACT = {
    "atan2": (
        lambda a, b: mpmath.atan2(a, b),
        lambda a, b: b / (a * a + b * b),
        lambda a, b: -a / (a * a + b * b),
    ),
    "hypot": (mpmath.hypot, lambda a, b: a / mpmath.hypot(a, b), lambda a, b: b / mpmath.hypot(a, b)),
    "logaddexp": (
        log_of_powers(mpmath.e),
        share_of_power(mpmath.e),
        lambda a, b: share_of_power(mpmath.e)(b, a),
    ),
    "logaddexp2": (log_of_powers(2), share_of_power(2), lambda a, b: share_of_power(2)(b, a)),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_agree_with_60_digits(name: str) -> None:
    pairs = [pair for pair in PAIRS if max(map(abs, pair)) < 1e100 or name in ("atan2", "hypot")]
    a, b = (np.array([row])[..., None] for row in zip(*pairs, strict=True))
    op = OP_REGISTRY[name]()
    y = op.forward(a, b)
    results = [y, *op.backward(np.ones_like(y), y, a, b)]
    for result, function in zip(results, EXACT[name], strict=True):
        with mpmath.workdps(60):
            exact = [float(function(mpmath.mpf(p), mpmath.mpf(q))) for p, q in pairs]
        np.testing.assert_allclose(result.ravel(), exact, rtol=2e-14)


def test_xlogy_is_0_where_its_first_operand_is() -> None:
    op = OP_REGISTRY["xlogy"]()
    a, b = np.array([[0.0, 0.0, 2.0, 0.0]]), np.array([[0.0, -1.0, np.e, np.nan]])
    y = op.forward(a, b)
    np.testing.assert_allclose(y, [[0, 0, 2, np.nan]])
    with np.errstate(invalid="ignore"):
        by_a, by_b = op.backward(np.ones_like(y), y, a, b)
    np.testing.assert_allclose(by_a, [[0, 0, 1, np.nan]])
    np.testing.assert_allclose(by_b, [[np.nan, 0, 2 / np.e, np.nan]])


def test_angle_goes_on_across_its_cut() -> None:
    """Held to its piece the angle has no jump left of 0, where its value does."""
    op = OP_REGISTRY["atan2"]()
    a, b = np.array([[1e-9]]), np.array([[-2.0]])
    branch = op.select_branch(a, b)
    across = op.forward_on_branch(branch, np.array([[-1e-3]]), b)
    np.testing.assert_allclose(across, np.pi + np.arctan(5e-4), rtol=1e-15)
    np.testing.assert_allclose(op.forward(np.array([[-1e-3]]), b), across - 2 * np.pi, rtol=1e-12)
    assert op.forward(np.array([[-0.0]]), b) == -np.pi
    assert op.forward(np.array([[0.0]]), b) == np.pi


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_length_at_the_origin_has_no_gradient(dtype: str) -> None:
    """PyTorch's own is NaN, 0 / 0."""
    model = "y = hypot(a, b)\ns = square(y)\nloss = sum(s)"
    body = {"model": model, "tensors": {}, "weights": {"a": [0.0, 3.0, -0.0], "b": [0.0, 4.0, 2.0]}, "dtype": dtype}
    assert check(body)["outcome"] == "pass"
    assert check({**body, "candidate": {"a": [0.0, 6.0, 0.0], "b": [0.0, 8.0, 4.0]}})["outcome"] == "pass"
    assert check({**body, "candidate": {"a": [1.0, 6.0, 0.0], "b": [0.0, 8.0, 4.0]}})["outcome"] == "fail"
