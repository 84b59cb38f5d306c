import numpy as np
import pytest

from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

X = np.array([[[1.0, 5.0, 5.0], [-2.0, 0.0, 1.0]]])


@pytest.mark.parametrize(
    ("name", "attributes", "words"),
    [
        ("sum", {"dim": 2}, "an axis from -2 to 1, not 2"),
        ("mean", {"dim": [0, -2]}, "axes that are all different"),
        ("var", {"dim": 1, "correction": 4}, "more than 4 elements"),
        ("cumsum", {"dim": -3}, "an axis from -2 to 1"),
        ("vector_norm", {"ord": 0, "dim": 2}, "an axis from -2 to 1"),
        ("logsumexp", {"dim": 5}, ", not 5"),
    ],
)
def test_reduction_refuses_mismatched_inputs(name, attributes, words):
    assert words in get_refusal(name, attributes, (3, 4))


def test_amax_shares_gradient_among_equal_elements():
    op = OP_REGISTRY["amax"](dim=1)
    (by_x,) = op.backward(np.ones((1, 2)), op.forward(X), X)
    np.testing.assert_array_equal(by_x[0], [[0, 0.5, 0.5], [0, 0, 1]])


def test_logsumexp_neither_overflows_nor_loses_the_small():
    op = OP_REGISTRY["logsumexp"](dim=0)
    x = np.array([[1e4, 1e4, -1e4]])
    np.testing.assert_allclose(op.forward(x), 1e4 + np.log(2), rtol=1e-16)
    np.testing.assert_array_equal(op.backward(np.ones(1), op.forward(x), x)[0], [[0.5, 0.5, 0]])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_a_norm_neither_overflows_nor_underflows(scale):
    op = OP_REGISTRY["vector_norm"]()
    x = np.array([[3.0, -4.0]]) * scale
    np.testing.assert_allclose(op.forward(x), 5 * scale)
    np.testing.assert_allclose(op.backward(np.ones(1), op.forward(x), x)[0], [[0.6, -0.8]])


def test_the_norm_of_order_0_counts_and_has_gradient_0():
    op = OP_REGISTRY["vector_norm"](ord=0, dim=1)
    x = np.array([[[0.0, 2.0, -1e-300], [0.0, 0.0, 0.0]]])
    output = op.forward(x)
    np.testing.assert_array_equal(output, [[2, 0]])
    np.testing.assert_array_equal(op.backward(np.ones((1, 2)), output, x)[0], np.zeros_like(x))
    np.testing.assert_array_equal(
        op.forward_on_branch(op.select_branch(x), x + 1), output, "a count does not move along its branch"
    )


def test_a_norm_of_zeros_has_gradient_0():
    for p in (1, 2, 3.5, "inf"):
        op = OP_REGISTRY["vector_norm"](ord=p)
        x = np.zeros((1, 3))
        np.testing.assert_array_equal(op.backward(np.ones(1), op.forward(x), x)[0], 0)


def test_variance_far_from_zero_keeps_its_digits():
    op = OP_REGISTRY["var"]()
    x = np.array([[1e8 + 1, 1e8 + 2, 1e8 + 3]])
    np.testing.assert_allclose(op.forward(x), 1.0, rtol=1e-14)


def test_cumsum_of_a_number_is_the_number():
    op = OP_REGISTRY["cumsum"](dim=0)
    np.testing.assert_array_equal(op.forward(np.array([2.0])), [2.0])


def test_the_mean_of_several_that_are_largest_rounds_and_one_alone_does_not():
    op = OP_REGISTRY["amax"](dim=1)
    rounding = op.estimate_rounding_on_branch(op.select_branch(X), op.forward(X), X)
    np.testing.assert_array_equal(rounding.magnitude, [[5, 0]])


@pytest.mark.parametrize(("p", "beyond"), [(3, (8 - 1) ** (1 / 3)), (2, 5**0.5), (1, 1.0), (1.5, np.nan), (-1, np.nan)])
def test_a_norm_is_continued_beyond_0_smoothly_or_not_at_all(p, beyond):
    """Of |x|^p only the even powers go on as they were; the others turn round, or have no other side."""
    op = OP_REGISTRY["vector_norm"](ord=p)
    x = np.array([[2.0, 1e-3]])
    branch = op.select_branch(x)
    np.testing.assert_array_equal(op.forward_on_branch(branch, x), op.forward(x))
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(op.forward_on_branch(branch, np.array([[2.0, -1.0]])), [beyond], rtol=1e-14)


def _judge_logsumexp(x, candidate):
    nodes = [{"name": "y", "op": "logsumexp", "inputs": ["x"], "dim": 0}]
    request = {"model": {"nodes": nodes}, "tensors": {}, "weights": {"x": list(x)}, "candidate": {"x": list(candidate)}}
    report = check(request)
    return report["outcome"], report["summary"]


@pytest.mark.parametrize("rest", [[1809.0, 1466.0, 1231.0, 1078.0], [1875.0], [1900.0, -5000.0], [0.0]])
def test_a_difference_lost_beside_the_largest_term_accuses_no_gradient(rest):
    """A log S of 1e-44 is lost beside 1910, and with it the difference, though the gradient is 1e-44."""
    x = np.array([1910.0, *rest])
    shares = np.exp(x - 1910)
    right = shares / shares.sum()
    outcome, summary = _judge_logsumexp(x, right)
    assert (outcome, "disagree:" in summary) == ("pass", False)
    for wrong in (right * 1.001, right + 1e-9):
        assert _judge_logsumexp(x, wrong)[0] == "fail"


def test_the_logarithm_of_a_sum_keeps_what_is_lost_beside_1():
    op = OP_REGISTRY["logsumexp"](dim=1)
    x = np.array([[[5.0, -95.0], [5.0, 5.0], [-3.0, -3.5]]])
    ours = op._compute_log_sum(x).ravel()
    np.testing.assert_allclose(ours, [np.exp(-100), np.log(2), np.log1p(np.exp(-0.5))], rtol=1e-15)
