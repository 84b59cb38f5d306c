import numpy as np
import pytest

from service.checks.graph.check import check
from service.numerics.ops import vector_norm

CLOSE = {"anchor": [0.0, 1, 3], "positive": [0.0, 1, 3], "negative": [1.0, 1, 1]}
APART = {"anchor": [0.0, 1, 3], "positive": [0.0, 2, 3], "negative": [1.0, 1, 1]}


def check_triplet(leaves, **attributes):
    nodes = [{"name": "loss", "op": "triplet_margin_loss", "inputs": list(leaves), **attributes}]
    return check({"tensors": {}, "weights": leaves, "model": {"nodes": nodes}})


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 4])
@pytest.mark.parametrize("leaves", [CLOSE, APART], ids=["equal", "equal in two of three"])
def test_positive_at_the_anchor_does_not_fail(p, leaves):
    """The distance is that of eps from 0, and turns round within it."""
    assert check_triplet(leaves, p=p, margin=9)["outcome"] != "fail"


@pytest.mark.parametrize("attributes", [{}, {"p": 1}, {"p": 1.5}, {"p": 0.5}, {"swap": True}])
@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1e-5, 1e-3])
def test_small_triplets_do_not_fail(scale, attributes):
    for seed in range(4):
        generator = np.random.default_rng(seed)
        leaves = {name: (generator.normal(size=4) * scale).tolist() for name in CLOSE}
        assert check_triplet(leaves, **attributes)["outcome"] != "fail", seed


@pytest.mark.parametrize("order", [1.5, 2, 3, 4])
def test_a_small_norm_beside_a_large_one_passes(order):
    """Taken across the small one, the difference of both settles: on that of the large one alone."""
    nodes = [
        {"name": "apart", "op": "sub", "inputs": ["a", "b"]},
        {"name": "moved", "op": "add", "inputs": ["apart", 1e-6]},
        {"name": "small", "op": "vector_norm", "inputs": ["moved"], "ord": order},
        {"name": "large", "op": "vector_norm", "inputs": ["a"]},
        {"name": "loss", "op": "sub", "inputs": ["small", "large"]},
    ]
    for seed in range(3):
        a = np.random.default_rng(seed).normal(size=4).tolist()
        report = check({"tensors": {}, "weights": {"a": a, "b": a}, "model": {"nodes": nodes}})
        assert report["outcome"] == "pass"


def test_a_piece_ends_where_the_vector_is_several_times_as_large():
    x = np.array([[3.0, 4.0]])
    branch = vector_norm.select_norm_branch(x, 1)
    np.testing.assert_array_equal(vector_norm.evaluate_norm_on_branch(2, branch, x, 1), [[5.0]])
    np.testing.assert_allclose(vector_norm.evaluate_norm_on_branch(2, branch, np.array([[-6.0, 8.0]]), 1), [[10.0]])
    assert np.isnan(vector_norm.evaluate_norm_on_branch(2, branch, np.array([[3.0, 40.0]]), 1)).all()


@pytest.mark.parametrize("x", [[[0.0, 2.0]], [[0.0, 0.0]]])
def test_norm_of_one_element_is_its_size_on_both_sides(x):
    branch = vector_norm.select_norm_branch(np.array(x), 1)
    np.testing.assert_array_equal(vector_norm.evaluate_norm_on_branch(2, branch, np.array([[0.0, 1e9]]), 1), [[1e9]])


def test_exact_numbers_are_not_on_the_border_of_a_piece():
    for size in (0.125, 0.5, 1.0, 2.0, 3.0, 8.0, 10.0):
        ends = np.nextafter(size, 0), np.nextafter(size, np.inf)
        pieces = [vector_norm.select_norm_branch(np.array([[end, size / 2]]), 1)[0, 1] for end in ends]
        assert pieces[0] == pieces[1]


def check_norm(x, order, dtype="float64", **more):
    nodes = [
        {"name": "n", "op": "vector_norm", "inputs": ["x"], "ord": order, **more},
        {"name": "loss", "op": "sum", "inputs": ["n"]},
    ]
    return check({"tensors": {}, "weights": {"x": x}, "model": {"nodes": nodes}, "dtype": dtype})


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("order", [2, 3, 1.5, 0.5, -1, -2])
@pytest.mark.parametrize("sign", [1, -1])
def test_vector_norm_passes_at_any_size(dtype, order, sign):
    """PyTorch takes powers as they are."""
    exponent = sign * (300 if dtype == "float64" else 30)
    report = check_norm([[10.0**exponent, -(10.0**exponent)], [3.0 * 10.0**exponent, 1.0]], order, dtype, dim=1)
    assert "disputes" not in report
    assert report["outcome"] != "fail"
    routes = report["gradients"]["x"]
    expected = 2.0 ** (1 / order - 1)
    for route in ("autograd", "analytic"):
        np.testing.assert_allclose(np.abs(routes[route][0]), expected, rtol=1e-2 if dtype == "bfloat16" else 1e-6)


@pytest.mark.parametrize("order", [-1, -2, -0.5])
@pytest.mark.parametrize("x", [[0.0, 2.0], [5.0, 0.0], [0.0, 3.0, 4.0], [0.0, 0.0]])
def test_norm_of_negative_order_beside_a_zero_is_constant(x, order):
    report = check_norm(x, order)
    assert "disputes" not in report
    assert report["outcome"] == "pass"
    assert np.abs(report["gradients"]["x"]["finite_difference"]).max() < 1e-12


def test_norm_gradient_keeps_its_digits_at_extreme_sizes():
    x = np.array([[3e-320, 4e-320]])
    np.testing.assert_allclose(vector_norm.differentiate_norm(2, x, 1), [[0.6, 0.8]], rtol=1e-3)
    np.testing.assert_allclose(vector_norm.differentiate_norm(2, x * 1e20, 1), x / 5e-320, rtol=1e-3)
    np.testing.assert_array_equal(vector_norm.differentiate_norm(0.5, np.array([[0.0, 4.0]]), 1), [[0.0, 1.0]])


def check_norm_of_zeros(order: object, x: list[float], candidate: list[float], projections: int | None = None) -> str:
    nodes = [
        {"name": "n", "op": "vector_norm", "inputs": ["x"], "ord": order},
        {"name": "loss", "op": "mul", "inputs": ["n", 3.0]},
    ]
    body = {"tensors": {}, "weights": {"x": x}, "model": {"nodes": nodes}, "candidate": {"x": candidate}}
    return check(body | ({} if projections is None else {"finite_difference": {"projections": projections}}))["outcome"]


@pytest.mark.parametrize("order", [-0.5, -1, -2, -3, "-inf"])
def test_norm_of_negative_order_has_a_kink_at_a_zero_element(order):
    for first in (0.0, 3.0, -3.0, 1.0):
        assert check_norm_of_zeros(order, [0.0, 2.0], [first, 0.0]) == "pass"
    for wrong in ([3.5, 0.0], [0.0, 1.0], [3.0, 1.0]):
        assert check_norm_of_zeros(order, [0.0, 2.0], wrong) == "fail"
    # Along each axis by itself it stays 0, though not beside.
    assert check_norm_of_zeros(order, [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]) == "pass"
    assert check_norm_of_zeros(order, [0.0, 0.0, 1.0], [1.0, 2.0, 0.0]) == "inconclusive"
    assert check_norm_of_zeros(order, [0.0, 0.0, 1.0], [2.0, 2.0, 0.0]) == "fail"
    assert check_norm_of_zeros(order, [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], 3) == "pass"


def test_smallest_size_gives_its_gradient_to_any_share_of_ties():
    x = [2.0, -2.0, 3.0]
    for right in ([3.0, 0.0, 0.0], [0.0, -3.0, 0.0], [1.0, -2.0, 0.0]):
        assert check_norm_of_zeros("-inf", x, right) == "pass"
    for wrong in ([3.0, -3.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]):
        assert check_norm_of_zeros("-inf", x, wrong) == "fail"


@pytest.mark.parametrize("order", [-0.5, -1, -2, -3])
def test_norm_at_zero_grows_by_the_elements_that_leave_zero(order):
    """Held against its own values close to 0, on both sides."""
    x, beside = np.array([[0.0, 0.0, 2.0]]), np.array([[1e-9, -2e-9, 2.0]])
    branch = vector_norm.choose_piece_beside(vector_norm.select_norm_branch(x, 1), beside, 1)
    expected = vector_norm.compute_p_norm(order, np.abs(beside), 1)
    norm = vector_norm.evaluate_norm_on_branch(order, branch, beside, 1)
    np.testing.assert_allclose(norm, expected, rtol=1e-4)
    mirrored = beside * [[-1, -1, 1]]
    np.testing.assert_array_equal(vector_norm.evaluate_norm_on_branch(order, branch, mirrored, 1), -norm)
    assert vector_norm.evaluate_norm_on_branch(order, branch * [[1, 0, 1]], beside * [[1, 0, 1]], 1) == 0
