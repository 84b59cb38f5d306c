"""What is known of a gradient beside the candidate: its size, whether it is nothing, and what the range takes."""

import pytest

from service.checks.graph.check import check
from service.checks.graph.references import ReferenceCache
from service.numerics.core.recipe import EAGER_RECIPES
from service.numerics.ops import OP_REGISTRY
from tests.solved_problems import solve_preset


def test_references_are_cached():
    worked = solve_preset("logistic_regression")
    grounds = ReferenceCache(worked.problem, worked.routes)
    first = grounds.build_reference("w", EAGER_RECIPES["FP32"])
    assert grounds.build_reference("w", EAGER_RECIPES["FP32"]).rounding is first.rounding
    assert grounds.find_disagreement("w") is grounds.find_disagreement("w")
    assert first.rounding.max() > 1e3 * grounds.build_reference("w", EAGER_RECIPES["FP64"]).rounding.max()


def test_nonzero_difference_needs_no_zero_tolerance(monkeypatch):
    def refuse_zero_check(*_):
        raise AssertionError

    monkeypatch.setattr(
        "service.numerics.verdict.zero_gradients.Float64Recomputation.collect_zero_evidence", refuse_zero_check
    )
    worked = solve_preset("logistic_regression")
    reference = ReferenceCache(worked.problem, worked.routes).build_reference("w", EAGER_RECIPES["FP64"])
    assert (reference.peer_magnitude, reference.zero_tolerance) == (0.0, None)
    assert reference.largest_magnitude > 0


def test_overflow_within_an_op_is_no_disagreement():
    """Of 1e22 the variance is no number in float32, where all is 0 that is divided by its root."""
    nodes = [
        {"name": "n", "op": "layer_norm", "inputs": ["x", "w"], "normalized_shape": [4]},
        {"name": "p", "op": "mul", "inputs": ["n", "a"]},
        {"name": "loss", "op": "sum", "inputs": ["p"]},
    ]
    x = [[1e22, -2e22, 3e22, 0.5e22]]
    body = {
        "tensors": {"a": [1.0, 2.0, -1.0, 0.5], "x": x},
        "weights": {"w": [1.0, 1.0, 1.0, 1.0]},
        "model": {"nodes": nodes},
    }
    report = check(body | {"dtype": "float32"})
    assert (report["outcome"], "disputes" in report) == ("inconclusive", False)
    assert "because of the range of the dtype alone" in report["verdicts"]["w"]["reason"]
    right = check(body)["gradients"]["w"]["analytic"].tolist()
    assert check(body | {"dtype": "float32", "candidate": {"w": right}})["outcome"] == "pass"
    assert check(body | {"dtype": "float32", "candidate": {"w": [0.0] * 4}})["outcome"] == "fail"


def test_routes_that_are_all_out_of_range_are_inconclusive():
    """A distance of 1e160 has no square, and PyTorch has no gradient of it."""
    leaves = {"a": [1e160, -3e160], "p": [2e160, 1e160], "n": [-1e160, 4e160]}
    nodes = [{"name": "loss", "op": "triplet_margin_loss", "inputs": ["a", "p", "n"], "swap": False, "margin": 1e161}]
    report = check({"tensors": {}, "weights": leaves, "model": {"nodes": nodes}})
    assert (report["outcome"], "disputes" in report) == ("inconclusive", False)


def check_cancelling(large, **fields):
    nodes = [{"name": "p", "op": "mul", "inputs": ["w", "x"]}, {"name": "loss", "op": "sum", "inputs": ["p"]}]
    x = [[large, 0.3], [-large, 0.3], [0.01, 0.4]]
    return check({"tensors": {"x": x}, "weights": {"w": [1.0, 1.0]}, "model": {"nodes": nodes}} | fields)


def make_candidate(datatype, first):
    return {"candidate": {"w": {"datatype": datatype, "shape": [2], "data": [first, 1.0]}}}


@pytest.mark.parametrize("part", [{}, {"sample": 2}, {"projections": 4}], ids=["all", "a sample", "along"])
@pytest.mark.parametrize(
    ("large", "fields"),
    [
        (1e8, make_candidate("BF16", -2.0)),
        (1e8, make_candidate("BF16", 0.0)),
        (1e8, make_candidate("BF16", 0.010009765625)),
        (1e8, {"dtype": "float32"} | make_candidate("FP32", -2.0)),
        (1e8, {"dtype": "float32"}),
        (1e10, {"dtype": "float32"} | make_candidate("FP32", 600.0)),
        (1e17, make_candidate("FP64", -8.0)),
    ],
)
def test_error_hidden_by_rounding_does_not_pass(large, fields, part):
    report = check_cancelling(large, **fields, finite_difference=part)
    assert report["outcome"] == "inconclusive"
    verdict = report["verdicts"]["w"]
    assert verdict["elements"]["pass"] <= 1
    assert verdict["elements"]["negligible"] == 0


def test_along_directions_only_what_is_known_of_the_norm_counts():
    """In BF16 our own gradient may be nothing but rounding: what it rules out is told by float64."""
    right = {"w": {"datatype": "FP64", "shape": [2], "data": [0.010009765625, 1.001953125]}}
    report = check_cancelling(1e5, candidate=right, dtype="bfloat16", finite_difference={"projections": 4})
    missed = report["verdicts"]["w"]["missed"]
    assert report["outcome"] == "pass"
    assert missed["relative_l2"] < 1e-4


SATURATED = [1e-50, 1e-60]


@pytest.mark.parametrize("p", [SATURATED, [1e-50, 0.3]])
@pytest.mark.parametrize("candidate", [[0.0, 0.0], [7.0, -1 / 0.3], [-1e12, -1 / 0.3]])
def test_a_probability_that_is_lost_does_not_pass(p, candidate):
    nodes = [{"name": "loss", "op": "binary_cross_entropy", "inputs": ["p", "y"], "reduction": "sum"}]
    body = {"tensors": {"y": [1.0, 1.0]}, "weights": {"p": p}, "model": {"nodes": nodes}}
    assert check(body | {"candidate": {"p": candidate}})["outcome"] != "pass"


@pytest.mark.parametrize("value", [3.0, 1000.0])
@pytest.mark.parametrize("candidate", [0.0, 1.0, -100.0])
def test_behind_a_normalisation_of_equal_numbers_nothing_passes(value, candidate):
    nodes = [
        {"name": "n", "op": "layer_norm", "inputs": ["x"], "normalized_shape": [4]},
        {"name": "h", "op": "mul", "inputs": ["n", "a"]},
        {"name": "s", "op": "sigmoid", "inputs": ["h"]},
        {"name": "loss", "op": "sum", "inputs": ["s"]},
    ]
    body = {"tensors": {"a": [1.0, 2.0, -1.0, 0.5]}, "weights": {"x": [[value] * 4] * 2}, "model": {"nodes": nodes}}
    given = {"candidate": {"x": {"datatype": "FP16", "shape": [2, 4], "data": [[candidate] * 4] * 2}}}
    for dtype in ("float16", "float64"):
        assert check(body | given | {"dtype": dtype})["outcome"] != "pass"
        assert check(body | {"dtype": dtype})["outcome"] == ("inconclusive" if dtype == "float16" else "pass")


def test_sample_uses_the_largest_of_the_whole_tensor():
    nodes = [{"name": "p", "op": "mul", "inputs": ["w", "x"]}, {"name": "loss", "op": "sum", "inputs": ["p"]}]
    x = [1.0] + [1e-9] * 40
    body = {"tensors": {"x": x}, "weights": {"w": [0.1] * 41}, "model": {"nodes": nodes}}
    verdict = check(body | {"finite_difference": {"sample": 3}})["verdicts"]["w"]
    assert verdict["outcome"] == "pass"
    assert verdict["elements"]["negligible"] == 3
    assert verdict["smallest_detectable_error"] == "Infinity"


def make_node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "inputs": list(inputs)} | attributes


def make_weighted_request(op, x, c):
    nodes = [make_node("y", op, "x"), make_node("p", "mul", "y", "c"), make_node("loss", "sum", "p")]
    return {"tensors": {"c": c}, "weights": {"x": x}, "model": {"nodes": nodes}}


def make_pole_request(x):
    nodes = [
        make_node("p", "pow", "x", exponent=-2.0),
        make_node("n", "vector_norm", "p", ord=3.0),
        make_node("loss", "silu", "n"),
    ]
    return {"tensors": {}, "weights": {"x": x}, "model": {"nodes": nodes}, "dtype": "float32"}


def make_triplet_request(scale, p, dtype="float64"):
    leaves = {"a": [1.0, -2.0, 0.5], "p": [-0.3, 1.0, 0.7], "n": [2.0, 0.4, -1.0]}
    leaves = {name: [value * scale for value in leaf] for name, leaf in leaves.items()}
    loss = make_node("loss", "triplet_margin_loss", *leaves, p=p, margin=scale, eps=0.0)
    return {"tensors": {}, "weights": leaves, "model": {"nodes": [loss]}, "dtype": dtype}


def make_far_target_request(target):
    nodes = [make_node("s", "sigmoid", "x"), make_node("loss", "binary_cross_entropy", "s", "t")]
    return {"tensors": {"t": [target, 0.5]}, "weights": {"x": [0.3, -41.2]}, "model": {"nodes": nodes}}


def make_square_request(x):
    nodes = [
        make_node("q", "mul", "x", "x"),
        make_node("y", "log", "q"),
        make_node("p", "mul", "y", "c"),
        make_node("loss", "sum", "p"),
    ]
    return {"tensors": {"c": [1.4e17] * len(x)}, "weights": {"x": x}, "model": {"nodes": nodes}}


def make_norm_request(x, c):
    nodes = [make_node("y", "rms_norm", "x", normalized_shape=[4], eps=1e-5), make_node("p", "mul", "y", "c")]
    nodes += [make_node("loss", "sum", "p")]
    return {"tensors": {"c": c}, "weights": {"x": x}, "model": {"nodes": nodes}}


EXTREME = {
    "elements 1e300 apart": make_weighted_request("silu", [1.5e-272, 8.1e53], [2e70, 1.3e71]),
    "coefficients 1e370 apart": make_weighted_request("sigmoid", [4.7857e-66, 2.628e-66], [-9.53e210, -1.24e-163]),
    "three apart": make_weighted_request("silu", [2.8e-99, -2.1e-9, -3.3e-181], [3e-50, 6.9e196, -3.9e95]),
    "poles in float32": make_pole_request([1e-21, -2.2e-21, 3e-21]),
    "a pole that a norm hides": make_pole_request([4e-20, 1e-21, 1e-22]),
    "cubes near the edge": make_triplet_request(1e100, 3.0),
    "cubes beyond the edge": make_triplet_request(1e110, 3.0),
    "a root that is rounded": make_triplet_request(1e30, 5.0),
    "a root that is rounded, in float32": make_triplet_request(1e10, 3.0, "float32"),
    "targets far below 0": make_far_target_request(-2.8e15),
    "a probability that rounds to 1": {
        "tensors": {"t": [-9013.4, 1569.0, 2762.5]},
        "weights": {"x": [39.44370091870386, 138.0243211466917, 66.35584488094011]},
        "model": make_far_target_request(0.0)["model"],
    },
    "a square that underflows": make_square_request([9.019433241027208e-154, 3.0]),
    "an inverse cube that underflows": make_norm_request(
        [-6.1e132, 2.3e134, 2.2e133, -4.6e132], [-4.7e14, 4e-7, -1.3e12, -7e5]
    ),
}


@pytest.mark.parametrize("name", EXTREME)
def test_no_route_is_accused_of_the_limits_of_floating_point(name):
    report = check(EXTREME[name])
    assert "disputes" not in report
    assert report["outcome"] != "fail"


@pytest.mark.parametrize("op", ["rms_norm", "triplet_margin_loss"])
def test_a_wrong_route_is_still_accused_at_ordinary_magnitudes(op, monkeypatch):
    """The negative control."""
    right = OP_REGISTRY[op].backward

    def scale_first_result(self, *given):
        first, *others = right(self, *given)
        return (first * 1.01, *others)

    monkeypatch.setattr(OP_REGISTRY[op], "backward", scale_first_result)
    body = (
        make_triplet_request(1.0, 3.0)
        if op == "triplet_margin_loss"
        else make_norm_request([1.0, -2.0, 0.5, 3.0], [1.0, 2.0, -1.0, 4.0])
    )
    assert "disputes" in check(body)
