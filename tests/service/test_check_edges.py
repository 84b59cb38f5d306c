"""Kinks, edges of domains, and what is not finite, as a client meets them."""

import numpy as np
import pytest

from tests.service.checks.graph.test_check import get_report


def make_node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "inputs": list(inputs), **attributes}


def check_nodes(nodes, x, candidate=None, z=None, **fields):
    body = {"tensors": {} if z is None else {"z": z}, "weights": {"x": x}, "model": {"nodes": nodes}, **fields}
    return get_report(body if candidate is None else body | {"candidate": {"x": candidate}})


def make_summed_nodes(op, *inputs, **attributes):
    return [make_node("y", op, *(inputs or ("x",)), **attributes), make_node("loss", "sum", "y")]


POOL = make_summed_nodes("max_pool2d", kernel_size=2)

KINKS = {
    "relu": (make_summed_nodes("relu"), [0.0, 1.0, -1.0], None, [([0], 0, 1)], [None, 1, 0]),
    "abs": (make_summed_nodes("abs"), [0.0, 1.0], None, [([0], -1, 1)], [None, 1]),
    "clamp, below": (make_summed_nodes("clamp", min=-1.0, max=1.0), [-1.0, 0.5], None, [([0], 0, 1)], [None, 1]),
    "clamp, above": (make_summed_nodes("clamp", min=-1.0, max=1.0), [1.0, 2.0], None, [([0], 1, 0)], [None, 0]),
    "maximum": (make_summed_nodes("maximum", "x", "z"), [3.0, 1.0], [3.0, 2.0], [([0], 0, 1)], [None, 0]),
    "minimum": (make_summed_nodes("minimum", "x", "z"), [3.0, 1.0], [3.0, 2.0], [([0], 1, 0)], [None, 1]),
    "max_pool2d": (POOL, [[[2.0, 2.0], [0.5, 1.0]]], None, [([0, 0, 0], 0, 1), ([0, 0, 1], 0, 1)], [None, None, 0, 0]),
    "amax": (make_summed_nodes("amax", dim=[0]), [2.0, 2.0, 1.0], None, [([0], 0, 1), ([1], 0, 1)], [None, None, 0]),
    "vector_norm of one": (
        make_summed_nodes("vector_norm", dim=[1], ord=2), [[0.0], [-2.0]], None, [([0, 0], -1, 1)], [None, -1],
    ),
    "vector_norm of order 3": (
        make_summed_nodes("vector_norm", dim=[1], ord=3), [[0.0], [-2.0]], None, [([0, 0], -1, 1)], [None, -1],
    ),
    "behind a linear op": (
        [make_node("s", "sub", "x", "z"), make_node("y", "relu", "s"), make_node("loss", "sum", "y")],
        [0.3, 1.0], [0.3, 0.0], [([0], 0, 1)], [None, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "x", "z", "kinks", "slopes"), KINKS.values(), ids=KINKS)
def test_a_kink_is_listed_and_accepts_what_lies_between_its_sides(nodes, x, z, kinks, slopes):
    def check_slopes(value):
        flat = [value(i) if slope is None else slope for i, slope in enumerate(slopes)]
        report = check_nodes(nodes, x, np.reshape(flat, np.shape(x)).tolist(), z)
        listed = [(kink["index"], kink["left"], kink["right"]) for kink in report["verdicts"]["x"]["kinks"]]
        assert [kink[0] for kink in listed] == [kink[0] for kink in kinks]
        np.testing.assert_allclose([kink[1:] for kink in listed], [kink[1:] for kink in kinks], atol=1e-12)
        return report["outcome"]

    ours = check_nodes(nodes, x, None, z)
    assert ours["outcome"] == "pass"
    for route in ("analytic", "autograd"):
        flat = np.ravel(ours["gradients"]["x"][route])
        assert check_slopes(lambda i, flat=flat: flat[i]) == "pass", "the convention of either route"
    _, left, right = kinks[0]
    low, high = min(left, right), max(left, right)
    for value in (low, high, low + 0.25 * (high - low), (low + high) / 2):
        # Of two that tie one has what the other leaves.
        assert check_slopes(lambda i, value=value: value if i == 0 else low + high - value) == "pass"
        if len(kinks) > 1:
            assert check_slopes(lambda i, value=value: value) == ("pass" if 2 * value == low + high else "fail")
    # Behind what rounds the allowance is some 5e-7, by random errors, and up to twice as much may pass.
    for value in (low - 2e-6, high + 2e-6, low - 1, high + 1):
        assert check_slopes(lambda i, value=value: value) == "fail"


BESIDE = {
    "relu": (make_summed_nodes("relu"), [0.0, 1.0], None, (0, 1)),
    "abs": (make_summed_nodes("abs"), [0.0, 1.0], None, (-1, 1)),
    "clamp": (make_summed_nodes("clamp", min=-1.0, max=1.0), [1.0, 0.5], None, (1, 0)),
    "maximum": (make_summed_nodes("maximum", "x", "z"), [3.0, 4.0], [3.0, 2.0], (0, 1)),
    "max_pool2d": (POOL, [[[2.0, 2.0], [0.5, 1.0]]], None, (0, 1)),
}


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(("nodes", "x", "z", "slopes"), BESIDE.values(), ids=BESIDE)
def test_difference_beside_a_kink_is_that_of_its_side(nodes, x, z, slopes, side):
    def check_moved(offset):
        moved = np.array(x)
        moved.flat[0] += offset
        return check_nodes(nodes, moved.tolist(), None, z)

    near, far = check_moved(side * 1e-9), check_moved(side * 0.25)
    assert near["outcome"] == "pass"
    assert near["verdicts"]["x"]["kinks"] == []
    value, bound = (np.ravel(near["gradients"]["x"][field])[0] for field in ("finite_difference", "error_bound"))
    assert abs(value - slopes[side > 0]) <= bound
    assert bound <= 4 * np.ravel(far["gradients"]["x"]["error_bound"])[0] + 1e-15
    other = np.array(near["gradients"]["x"]["analytic"])
    other.flat[0] = slopes[side < 0]
    moved = np.array(x)
    moved.flat[0] += side * 1e-9
    assert check_nodes(nodes, moved.tolist(), other.tolist(), z)["outcome"] == "fail", "the other side is wrong here"


def test_a_clamp_between_equal_ends_accepts_its_slope_and_the_convention():
    """It is constant, but PyTorch and both routes hand the gradient on where the argument is that end."""
    nodes = [
        make_node("c", "clamp", "x", min=1.0, max=1.0),
        make_node("m", "mul", "x", 3.0),
        make_node("s", "add", "c", "m"),
        make_node("loss", "sum", "s"),
    ]
    assert check_nodes(nodes, [1.0, 2.0])["outcome"] == "pass"
    outcomes = {value: check_nodes(nodes, [1.0, 2.0], [value, 3.0])["outcome"] for value in (3.0, 4.0, 3.5, 2.9, 4.1)}
    assert outcomes == {3.0: "pass", 4.0: "pass", 3.5: "inconclusive", 2.9: "fail", 4.1: "fail"}
    assert check_nodes(nodes, [1.0, 2.0], [3.0, 4.0])["outcome"] == "fail", "not at the end"


def test_kinks_that_cancel_accept_the_slope_and_either_convention():
    """relu(x) - relu(-x) at 0: both sides say 1, the routes say 0; two slopes of relu explain all from 0 to 2."""
    nodes = [
        make_node("m", "neg", "x"),
        make_node("a", "relu", "x"),
        make_node("b", "relu", "m"),
        make_node("d", "sub", "a", "b"),
        make_node("loss", "sum", "d"),
    ]
    ours = check_nodes(nodes, [0.0, 1.0])
    assert ours["outcome"] == "pass"
    ((kink),) = ours["verdicts"]["x"]["kinks"]
    assert (kink["index"], kink["left"], kink["right"]) == ([0], pytest.approx(1), pytest.approx(1))
    outcomes = {0.0: "pass", 1.0: "pass", 0.5: "inconclusive", 2.0: "inconclusive", 2.1: "fail", -1.0: "fail"}
    for value, outcome in outcomes.items():
        assert check_nodes(nodes, [0.0, 1.0], [value, 1.0])["outcome"] == outcome


HOLE = [make_node("n", "sin", "x"), make_node("q", "div", "n", "x"), make_node("loss", "sum", "q")]


@pytest.mark.parametrize("x", [0.0, 1e-300])
@pytest.mark.parametrize("judged", [None, [0.0, -0.3011686789397568], [np.nan, -0.3011686789397568]])
def test_where_the_loss_has_no_value_nothing_is_judged_and_no_range_blamed(x, judged):
    """sin(x) / x at 0 is 0 / 0, although a difference over 0 sees none of that."""
    candidate = None if judged is None else ["NaN" if np.isnan(value) else value for value in judged]
    report = check_nodes(HOLE, [x, 1.0], candidate, dtype="float32", candidate_dtype="FP64" if candidate else None)
    assert report["outcome"] == "inconclusive"
    reason = report["verdicts"]["x"]["reason"]
    assert "no finite difference with a bound exists here" in reason
    assert "range" not in reason
    assert report["verdicts"]["x"]["elements"]["pass"] == 1, "the other element is judged"


def test_beside_an_element_without_a_loss_a_wrong_one_fails():
    assert check_nodes(HOLE, [0.0, 1.0], [0.0, -0.3])["outcome"] == "fail"
    assert check_nodes(HOLE, [0.5, 1.0])["outcome"] == "pass"


def test_an_overflow_of_the_dtype_is_still_told_as_one():
    report = check_nodes(make_summed_nodes("exp"), [100.0, 1.0], dtype="float32")
    assert report["outcome"] == "inconclusive"
    assert "because of the range of the dtype alone" in report["verdicts"]["x"]["reason"]


@pytest.mark.parametrize("op", ["sqrt", "log"])
@pytest.mark.parametrize("x", [1e-300, 1e-12, 1e-6])
def test_near_the_edge_of_a_domain_the_bound_holds(op, x):
    report = check_nodes(make_summed_nodes(op), [x, 1.0])
    truth = np.array([1 / x, 1.0]) if op == "log" else 0.5 / np.sqrt([x, 1.0])
    value, bound = (np.array(report["gradients"]["x"][field]) for field in ("finite_difference", "error_bound"))
    assert (np.abs(value - truth) <= bound).all()
    assert report["outcome"] == "pass"
    wrong = report["gradients"]["x"]["analytic"]
    assert check_nodes(make_summed_nodes(op), [x, 1.0], [1.001 * wrong[0], wrong[1]])["outcome"] == "fail"


@pytest.mark.parametrize(
    ("op", "begins"),
    [
        ("log", "begins at node 'y' (log): of finite inputs it makes -Infinity at index [1]."),
        ("sqrt", "The loss is finite, its gradient is not: node 'y' (sqrt) hands Infinity at index [1] back to 'x'."),
    ],
)
def test_edge_of_a_domain_is_inconclusive_with_its_place(op, begins):
    report = check_nodes(make_summed_nodes(op), [1.0, 0.0])
    assert report["outcome"] == "inconclusive"
    assert begins in report["verdicts"]["x"]["reason"]
    assert report["gradients"]["x"]["error_bound"][1] == "Infinity"
    slope = {"log": 1.0, "sqrt": 0.5}[op]
    assert check_nodes(make_summed_nodes(op), [1.0, 0.0], [slope, 5.0])["outcome"] == "inconclusive"
    # It is chance whether the search for a step, of two random directions, looks beyond the edge; then it finds none.
    outcomes = {
        check_nodes(make_summed_nodes(op), [1.0, 0.0], [1.1 * slope, 5.0], seed=seed)["outcome"] for seed in range(8)
    }
    assert "fail" in outcomes <= {"fail", "inconclusive"}


def test_reason_names_the_node_of_the_overflow_in_every_dtype():
    nodes = [
        make_node("p", "mul", "x", "x"),
        make_node("q", "neg", "p"),
        make_node("loss", "half_squared_error", "q", "z"),
    ]
    wide = check_nodes(nodes, [1.0, 1e200], None, [1.0, 1.0])
    assert wide["outcome"] == "inconclusive"
    assert wide["loss"]["analytic"] == "Infinity"
    assert "node 'p' (mul): of finite inputs it makes Infinity at index [1]" in wide["verdicts"]["x"]["reason"]
    assert (
        "node 'p' (mul)"
        in check_nodes(nodes, [1.0, 300.0], None, [1.0, 1.0], dtype="float16")["verdicts"]["x"]["reason"]
    )
    assert "begins" not in check_nodes(nodes, [1.0, 300.0], None, [1.0, 1.0])["verdicts"]["x"]["reason"]


def test_a_candidate_that_fails_at_a_finite_point_is_told_nothing_of_infinities():
    reason = check_nodes(make_summed_nodes("sqrt"), [1.0, 4.0], [0.5, 1.0])["verdicts"]["x"]["reason"]
    assert "not allowed" not in reason
    assert "hands" not in reason
    assert "begins" not in reason


EDGES = {
    "sqrt": (make_summed_nodes("sqrt"), lambda x: 0.5 / np.sqrt(x)),
    "sqrt, mean": ([make_node("y", "sqrt", "x"), make_node("loss", "mean", "y")], lambda x: 0.5 / np.sqrt(x) / 3),
    "power": (make_summed_nodes("pow", exponent=1.5), lambda x: 1.5 * np.sqrt(x)),
    "log": (make_summed_nodes("log"), lambda x: 1 / x),
    "behind another": (
        [make_node("s", "sqrt", "x"), make_node("y", "exp", "s"), make_node("loss", "sum", "y")],
        lambda x: 0.5 * np.exp(np.sqrt(x)) / np.sqrt(x),
    ),
}


@pytest.mark.parametrize(("nodes", "slope"), EDGES.values(), ids=EDGES)
def test_an_element_at_the_edge_of_a_domain_leaves_its_neighbours_alone(nodes, slope):
    right = slope(np.array([1.0, 4.0]))
    for factor, outcome in ((1.0, "inconclusive"), (1 + 1e-6, "fail")):
        report = check_nodes(nodes, [0.0, 1.0, 4.0], [0.0, *(factor * right)])
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
    nodes = [
        make_node("s", "sin", "x"),
        make_node("p", "mul", "s", size),
        make_node("q", "div", "p", size),
        make_node("loss", "sum", "q"),
    ]
    assert check_nodes(nodes, [0.5, 1.0, 1.5], candidate)["outcome"] in ("fail", "inconclusive")
