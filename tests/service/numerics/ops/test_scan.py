from typing import Any

import mpmath
import numpy as np
import pytest

from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY
from tests.solved_problems import SolvedProblem

GENERATOR = np.random.default_rng(7)
LENGTH = 6
A, B, G = GENERATOR.normal(size=(3, LENGTH))
INITIAL = 0.7


def test_states_and_gradients_are_sums_of_products() -> None:
    """h_t = sum over s <= t of b_s times the factors behind s, each derivative written out in high precision."""
    with mpmath.workdps(40):
        a, b, g = ([mpmath.mpf(value) for value in array] for array in (A, B, G))
        states, before = [], mpmath.mpf(INITIAL)
        for factor, term in zip(a, b, strict=True):
            before = factor * before + term
            states.append(before)

        def weigh(start: int) -> Any:
            """The gradient of the state after step `start`."""
            return mpmath.fsum(g[t] * mpmath.fprod(a[start + 1 : t + 1]) for t in range(start, LENGTH))

        befores = [mpmath.mpf(INITIAL), *states[:-1]]
        expected = (
            [float(weigh(t) * befores[t]) for t in range(LENGTH)],
            [float(weigh(t)) for t in range(LENGTH)],
            float(weigh(0) * a[0]),
        )
    op = OP_REGISTRY["linear_scan"](dim=0)
    h = op.forward(A[None], B[None], np.array([INITIAL]))
    np.testing.assert_allclose(h[0], [float(state) for state in states], rtol=1e-14)
    for gradient, value in zip(op.backward(G[None], h, A[None], B[None], np.array([INITIAL])), expected, strict=True):
        assert gradient is not None
        np.testing.assert_allclose(gradient[0], value, rtol=1e-13)


def test_factors_whose_product_leaves_the_range_do_no_harm() -> None:
    a, b = np.full((1, 5), 1e200), np.zeros((1, 5))
    np.testing.assert_array_equal(OP_REGISTRY["linear_scan"](dim=0).forward(a, b), b)


REQUEST: dict[str, Any] = {
    "tensors": {},
    "weights": {"a": A.reshape(3, 2).tolist(), "b": B.reshape(3, 2).tolist(), "h0": [0.3, -0.4]},
    "model": "h = linear_scan(a, b, h0, dim=0)\nh2 = mul(h, h)\nloss = sum(h2)",
}


def test_bug_of_a_scan_is_named() -> None:
    solved = SolvedProblem(REQUEST)
    graph = solved.problem.graph
    values = graph.forward(solved.problem.float64_leaves)
    op: Any = OP_REGISTRY["linear_scan"]
    for method in ("not_carried_back", "own_state_for_the_one_before"):
        wrong = graph.backward(values, {"h": lambda *arrays, m=method: getattr(op(dim=0), m)(*arrays)})
        names = solved.list_bug_names({"a": wrong["a"][0]})
        assert method in names["a"]


@pytest.mark.parametrize("has_skip", [False, True])
def test_selective_scan_passes(has_skip: bool) -> None:
    shapes = {"u": (2, 3, 4), "delta": (2, 3, 4), "a": (3, 2), "b": (2, 2, 4), "c": (2, 2, 4)}
    shapes |= {"d": (3,)} if has_skip else {}
    weights = {name: GENERATOR.uniform(-1, 1, shape).tolist() for name, shape in shapes.items()}
    text = f"y = selective_scan({', '.join(shapes)})\ny2 = mul(y, y)\nloss = sum(y2)"
    assert check({"tensors": {}, "weights": weights, "model": text})["outcome"] == "pass"
