"""Kinks, edges of domains, and what is not finite, as a client meets them."""

import numpy as np
import pytest

from tests.service.checks.graph.test_check import answered


def node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "inputs": list(inputs), **attributes}


def report_of(nodes, x, candidate=None, z=None, **fields):
    body = {"tensors": {} if z is None else {"z": z}, "weights": {"x": x}, "model": {"nodes": nodes}, **fields}
    return answered(body if candidate is None else body | {"candidate": {"x": candidate}})


def summed(op, *inputs, **attributes):
    return [node("y", op, *(inputs or ("x",)), **attributes), node("loss", "sum", "y")]


POOL = summed("max_pool2d", kernel_size=2)

KINKS = {
    "relu": (summed("relu"), [0.0, 1.0, -1.0], None, [([0], 0, 1)], [None, 1, 0]),
    "abs": (summed("abs"), [0.0, 1.0], None, [([0], -1, 1)], [None, 1]),
    "clamp, below": (summed("clamp", min=-1.0, max=1.0), [-1.0, 0.5], None, [([0], 0, 1)], [None, 1]),
    "clamp, above": (summed("clamp", min=-1.0, max=1.0), [1.0, 2.0], None, [([0], 1, 0)], [None, 0]),
    "maximum": (summed("maximum", "x", "z"), [3.0, 1.0], [3.0, 2.0], [([0], 0, 1)], [None, 0]),
    "minimum": (summed("minimum", "x", "z"), [3.0, 1.0], [3.0, 2.0], [([0], 1, 0)], [None, 1]),
    "max_pool2d": (POOL, [[[2.0, 2.0], [0.5, 1.0]]], None, [([0, 0, 0], 0, 1), ([0, 0, 1], 0, 1)], [None, None, 0, 0]),
    "amax": (summed("amax", dim=[0]), [2.0, 2.0, 1.0], None, [([0], 0, 1), ([1], 0, 1)], [None, None, 0]),
    "vector_norm of one": (
        summed("vector_norm", dim=[1], ord=2), [[0.0], [-2.0]], None, [([0, 0], -1, 1)], [None, -1],
    ),
    "vector_norm of order 3": (
        summed("vector_norm", dim=[1], ord=3), [[0.0], [-2.0]], None, [([0, 0], -1, 1)], [None, -1],
    ),
    "behind a linear op": (
        [node("s", "sub", "x", "z"), node("y", "relu", "s"), node("loss", "sum", "y")],
        [0.3, 1.0], [0.3, 0.0], [([0], 0, 1)], [None, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "x", "z", "kinks", "slopes"), KINKS.values(), ids=KINKS)
def test_a_kink_is_listed_and_accepts_what_lies_between_its_sides(nodes, x, z, kinks, slopes):
    def outcome(value):
        flat = [value(i) if slope is None else slope for i, slope in enumerate(slopes)]
        report = report_of(nodes, x, np.reshape(flat, np.shape(x)).tolist(), z)
        listed = [(each["index"], each["left"], each["right"]) for each in report["verdicts"]["x"]["kinks"]]
        assert [each[0] for each in listed] == [each[0] for each in kinks]
        np.testing.assert_allclose([each[1:] for each in listed], [each[1:] for each in kinks], atol=1e-12)
        return report["outcome"]

    ours = report_of(nodes, x, None, z)
    assert ours["outcome"] == "pass"
    for route in ("analytic", "autograd"):
        flat = np.ravel(ours["gradients"]["x"][route])
        assert outcome(lambda i, flat=flat: flat[i]) == "pass", "the convention of either route"
    _, left, right = kinks[0]
    low, high = min(left, right), max(left, right)
    for value in (low, high, low + 0.25 * (high - low), (low + high) / 2):
        # Of two that tie one has what the other leaves.
        assert outcome(lambda i, value=value: value if i == 0 else low + high - value) == "pass"
        if len(kinks) > 1:
            assert outcome(lambda i, value=value: value) == ("pass" if 2 * value == low + high else "fail")
    # Behind what rounds the allowance is some 5e-7, by random errors, and up to twice as much may pass.
    for value in (low - 2e-6, high + 2e-6, low - 1, high + 1):
        assert outcome(lambda i, value=value: value) == "fail"


BESIDE = {
    "relu": (summed("relu"), [0.0, 1.0], None, (0, 1)),
    "abs": (summed("abs"), [0.0, 1.0], None, (-1, 1)),
    "clamp": (summed("clamp", min=-1.0, max=1.0), [1.0, 0.5], None, (1, 0)),
    "maximum": (summed("maximum", "x", "z"), [3.0, 4.0], [3.0, 2.0], (0, 1)),
    "max_pool2d": (POOL, [[[2.0, 2.0], [0.5, 1.0]]], None, (0, 1)),
}


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(("nodes", "x", "z", "slopes"), BESIDE.values(), ids=BESIDE)
def test_beside_a_kink_it_is_the_answer_of_its_side_as_tight_as_elsewhere(nodes, x, z, slopes, side):
    def at(offset):
        moved = np.array(x)
        moved.flat[0] += offset
        return report_of(nodes, moved.tolist(), None, z)

    near, far = at(side * 1e-9), at(side * 0.25)
    assert near["outcome"] == "pass"
    assert near["verdicts"]["x"]["kinks"] == []
    value, bound = (np.ravel(near["gradients"]["x"][each])[0] for each in ("finite_difference", "error_bound"))
    assert abs(value - slopes[side > 0]) <= bound
    assert bound <= 4 * np.ravel(far["gradients"]["x"]["error_bound"])[0] + 1e-15
    other = np.array(near["gradients"]["x"]["analytic"])
    other.flat[0] = slopes[side < 0]
    moved = np.array(x)
    moved.flat[0] += side * 1e-9
    assert report_of(nodes, moved.tolist(), other.tolist(), z)["outcome"] == "fail", "the other side is wrong here"


def test_kinks_that_cancel_accept_the_slope_and_either_convention():
    """relu(x) - relu(-x) at 0: both sides say 1, the routes say 0; two slopes of relu explain all from 0 to 2."""
    nodes = [
        node("m", "neg", "x"), node("a", "relu", "x"), node("b", "relu", "m"), node("d", "sub", "a", "b"),
        node("loss", "sum", "d"),
    ]  # fmt: skip
    ours = report_of(nodes, [0.0, 1.0])
    assert ours["outcome"] == "pass"
    ((kink),) = ours["verdicts"]["x"]["kinks"]
    assert (kink["index"], kink["left"], kink["right"]) == ([0], pytest.approx(1), pytest.approx(1))
    outcomes = {0.0: "pass", 1.0: "pass", 0.5: "inconclusive", 2.0: "inconclusive", 2.1: "fail", -1.0: "fail"}
    for value, outcome in outcomes.items():
        assert report_of(nodes, [0.0, 1.0], [value, 1.0])["outcome"] == outcome


@pytest.mark.parametrize("op", ["sqrt", "log"])
@pytest.mark.parametrize("x", [1e-300, 1e-12, 1e-6])
def test_near_the_edge_of_a_domain_the_bound_holds(op, x):
    report = report_of(summed(op), [x, 1.0])
    truth = np.array([1 / x, 1.0]) if op == "log" else 0.5 / np.sqrt([x, 1.0])
    value, bound = (np.array(report["gradients"]["x"][each]) for each in ("finite_difference", "error_bound"))
    assert (np.abs(value - truth) <= bound).all()
    assert report["outcome"] == "pass"
    wrong = report["gradients"]["x"]["analytic"]
    assert report_of(summed(op), [x, 1.0], [1.001 * wrong[0], wrong[1]])["outcome"] == "fail"


@pytest.mark.parametrize(
    ("op", "begins"),
    [
        ("log", "begins at node 'y' (log): of finite inputs it makes -Infinity at index [1]."),
        ("sqrt", "The loss is finite, its gradient is not: node 'y' (sqrt) hands Infinity at index [1] back to 'x'."),
    ],
)
def test_at_the_edge_of_a_domain_it_does_not_know_and_says_where(op, begins):
    report = report_of(summed(op), [1.0, 0.0])
    assert report["outcome"] == "inconclusive"
    assert begins in report["verdicts"]["x"]["reason"]
    assert report["gradients"]["x"]["error_bound"][1] == "Infinity"
    slope = {"log": 1.0, "sqrt": 0.5}[op]
    assert report_of(summed(op), [1.0, 0.0], [slope, 5.0])["outcome"] == "inconclusive"
    # It is chance whether the search for a step, of two random directions, looks beyond the edge; then it finds none.
    found = {report_of(summed(op), [1.0, 0.0], [1.1 * slope, 5.0], seed=seed)["outcome"] for seed in range(8)}
    assert "fail" in found <= {"fail", "inconclusive"}


def test_reason_names_the_node_of_the_overflow_in_every_dtype():
    nodes = [node("p", "mul", "x", "x"), node("q", "neg", "p"), node("loss", "half_squared_error", "q", "z")]
    wide = report_of(nodes, [1.0, 1e200], None, [1.0, 1.0])
    assert wide["outcome"] == "inconclusive"
    assert wide["loss"]["analytic"] == "Infinity"
    assert "node 'p' (mul): of finite inputs it makes Infinity at index [1]" in wide["verdicts"]["x"]["reason"]
    assert (
        "node 'p' (mul)" in report_of(nodes, [1.0, 300.0], None, [1.0, 1.0], dtype="float16")["verdicts"]["x"]["reason"]
    )
    assert "begins" not in report_of(nodes, [1.0, 300.0], None, [1.0, 1.0])["verdicts"]["x"]["reason"]


def test_a_candidate_that_fails_at_a_finite_point_is_told_nothing_of_infinities():
    reason = report_of(summed("sqrt"), [1.0, 4.0], [0.5, 1.0])["verdicts"]["x"]["reason"]
    assert "not allowed" not in reason
    assert "hands" not in reason
    assert "begins" not in reason


EDGES = {
    "sqrt": (summed("sqrt"), lambda x: 0.5 / np.sqrt(x)),
    "sqrt, mean": ([node("y", "sqrt", "x"), node("loss", "mean", "y")], lambda x: 0.5 / np.sqrt(x) / 3),
    "power": (summed("pow", exponent=1.5), lambda x: 1.5 * np.sqrt(x)),
    "log": (summed("log"), lambda x: 1 / x),
    "behind another": (
        [node("s", "sqrt", "x"), node("y", "exp", "s"), node("loss", "sum", "y")],
        lambda x: 0.5 * np.exp(np.sqrt(x)) / np.sqrt(x),
    ),
}


@pytest.mark.parametrize(("nodes", "slope"), EDGES.values(), ids=EDGES)
def test_an_element_at_the_edge_of_a_domain_leaves_its_neighbours_alone(nodes, slope):
    right = slope(np.array([1.0, 4.0]))
    for factor, outcome in ((1.0, "inconclusive"), (1 + 1e-6, "fail")):
        report = report_of(nodes, [0.0, 1.0, 4.0], [0.0, *(factor * right)])
        elements = report["verdicts"]["x"]["elements"]
        assert report["outcome"] == outcome
        assert (elements["pass"], elements["fail"], elements["inconclusive"]) == (
            (2, 0, 1) if factor == 1 else (0, 2, 1)
        )
        assert report["gradients"]["x"]["finite_difference"][1:] == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("size", [1e300, 1e200, 1e-200, 1e-300, 5e-324])
@pytest.mark.parametrize("candidate", [[1.0, 2.0, 3.0], [1e308, -1e-308, 0.0], ["NaN", "Infinity", 1.0]])
def test_diagnosis_survives_constants_without_a_square(size, candidate):
    """The square or the reciprocal of such a constant leaves float64."""
    nodes = [node("s", "sin", "x"), node("p", "mul", "s", size), node("q", "div", "p", size), node("loss", "sum", "q")]
    assert report_of(nodes, [0.5, 1.0, 1.5], candidate)["outcome"] in ("fail", "inconclusive")
