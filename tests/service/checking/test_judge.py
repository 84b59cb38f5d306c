import dataclasses

import numpy as np
import pytest

from schemas.tensor import Tensor
from service.check import check
from service.checking import language
from service.checking.judge import Judge
from service.checking.question import posed
from service.checking.routes import Routes
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.ops import REGISTRY
from service.numerics.outcome import Outcome


def routes_of(problem, override=None):
    return Routes(
        analytic.differentiate(problem.graph, problem.leaves, override),
        autograd.differentiate(problem.graph, problem.leaves, problem.reported),
        finite_difference.differentiate(problem.graph, problem.wide, problem.names),
    )


def problem_of(body, **fields):
    return posed(language.parsed(body | fields))


def twice(problem, name):
    node = next(node for node in problem.graph.nodes if node.name == name)
    return {name: lambda gradient, output, *inputs: node.op.backward(2 * gradient, output, *inputs)}


CANDIDATE = {"candidate": {"w1": [[0.0, 0.0], [0.0, 0.0]]}}


def test_without_a_candidate_both_routes_are_judged(example):
    problem = problem_of(example)
    assert Judge(problem, routes_of(problem)).of("w1").outcome == Outcome.PASS
    wrong = Judge(problem, routes_of(problem, twice(problem, "L1A"))).of("w1")
    assert wrong.outcome == Outcome.FAIL
    assert {each.route for each in wrong.worst if each.outcome == Outcome.FAIL} == {"analytic"}


def test_no_candidate_fails_on_the_evidence_of_routes_that_disagree(example):
    problem = problem_of(example, **CANDIDATE)
    assert Judge(problem, routes_of(problem)).of("w1").outcome == Outcome.FAIL
    disputed = Judge(problem, routes_of(problem, twice(problem, "L1A"))).of("w1")
    assert disputed.outcome == Outcome.INCONCLUSIVE
    assert "disagree among themselves" in disputed.reason


@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("step", [1e-20, 1e-300])
@pytest.mark.parametrize("value", [0, 7])
def test_a_step_that_is_lost_in_rounding_lets_nothing_pass(example, method, step, value):
    body = example | {"finite_difference": {"method": method, "step": step}}
    candidate = {"candidate": {"w1": [[value, value], [value, value]]}}
    assert check(body)["outcome"] == check(body | candidate)["outcome"] == "inconclusive"


def test_a_gradient_that_rounding_alone_keeps_from_zero_passes():
    """Of softmax the gradients sum to zero, and with them that of what is added to all its inputs."""
    nodes = [
        {"name": "z", "op": "add", "inputs": ["x", "shift"]},
        {"name": "loss", "op": "cross_entropy", "inputs": ["z", "label"]},
    ]
    body = {"tensors": {"x": [[0.1, -0.7, 1.3]], "label": [1]}, "weights": {"shift": 0.3}, "model": {"nodes": nodes}}
    for dtype in ("float64", "float32"):
        report = check(body | {"dtype": dtype})
        assert report["outcome"] == "pass"
        assert abs(report["gradients"]["shift"]["analytic"]) < 1e-6


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "FP64"),
        ({"dtype": "float32"}, "FP32"),
        ({"dtype": "float32", "candidate": {"w1": {"datatype": "FP64", "shape": [1], "data": [1]}}}, "FP64"),
        ({"candidate": {"w1": {"datatype": "FP16", "shape": [1], "data": [1]}}}, "FP16"),
        ({"candidate": {"w1": {"datatype": "BF16", "shape": [1], "data": [1]}}, "candidate_dtype": "TF32"}, "TF32"),
        ({"candidate_dtype": "bfloat16"}, "BF16"),
    ],
)
def test_the_arithmetic_that_is_judged(example, fields, name):
    problem = problem_of(example, **CANDIDATE | fields)
    assert problem.precision("w1").name == name
    assert problem.precision("w2").name == problem.dtype.precision.name


def test_a_candidate_is_comparable_if_its_shape_fits(example):
    problem = problem_of(example, **CANDIDATE)
    judge = Judge(problem, routes_of(problem))
    assert judge.comparable("w1")
    assert not judge.comparable("w2")
    other = dataclasses.replace(
        problem, request=problem.request.model_copy(update={"candidate": {"w1": Tensor(np.ones(3), None, False)}})
    )
    assert not Judge(other, routes_of(problem)).comparable("w1")
    assert Judge(other, routes_of(problem)).of("w1").outcome == Outcome.FAIL


def test_a_hint_is_given_only_where_it_is_true(example):
    correct = routes_of(problem_of(example)).analytic.gradients["w1"]
    narrow = correct.astype(np.float32).astype(np.float64)
    for candidate, hinted in ((narrow, True), (narrow * 1.1, False), (correct, False)):
        problem = problem_of(example, candidate={"w1": candidate.tolist()})
        assert ("candidate_dtype" in Judge(problem, routes_of(problem)).of("w1").reason) == hinted


NARROW = {
    "a gradient beyond the largest number": ("pow", [0.3, 6.0], {"exponent": 10}),
    "a power beyond it": ("pow", [0.01, 0.5], {"exponent": -3.3}),
    "one on PyTorch's way": ("vector_norm", [0.001, 2.0], {"ord": -2}),
}


def narrow(op, x, attributes, dtype="float16", **fields):
    nodes = [{"name": "out", "op": op, "inputs": ["x"], **attributes}, {"name": "loss", "op": "sum", "inputs": ["out"]}]
    body = {"tensors": {}, "weights": {"x": x}, "dtype": dtype, "model": {"nodes": nodes}}
    return check(body | fields)["verdicts"]["x"]


@pytest.mark.parametrize("case", NARROW.values(), ids=NARROW)
def test_a_range_that_is_too_small_is_no_wrong_gradient(case):
    found = narrow(*case)
    assert found["outcome"] == "inconclusive"
    assert "because of the range of the dtype alone" in found["reason"]


def test_but_what_is_not_finite_in_float64_either_is(monkeypatch):
    op = REGISTRY["tanh"]
    assert narrow("tanh", [0.5], {})["outcome"] == "pass"
    monkeypatch.setattr(op, "twin", lambda self, torch, input: torch.tanh(input) * torch.inf)
    for dtype in ("float16", "float64"):
        assert narrow("tanh", [0.5], {}, dtype)["outcome"] == "fail"


def test_nor_is_it_excused_in_a_candidate():
    candidate = {"x": {"datatype": "FP16", "shape": [2], "data": ["Infinity", 0.02]}}
    assert narrow("pow", [0.3, 0.5], {"exponent": 10}, candidate=candidate)["outcome"] == "fail"


EXP = ("exp", [100.0], {}, "float32")


def judged_as(given, datatype=None):
    candidate = [given] if datatype is None else {"datatype": datatype, "shape": [1], "data": [given]}
    found = narrow(*EXP, candidate={"x": candidate})
    return found["outcome"], found["reason"]


@pytest.mark.parametrize("given", ["Infinity", "NaN"])
@pytest.mark.parametrize("datatype", [None, "FP32", "FP16", "BF16"])
def test_what_is_beyond_the_range_is_beyond_it_in_a_candidate_too(given, datatype):
    outcome, reason = judged_as(given, datatype)
    assert outcome == "inconclusive"
    assert "because of the range of the dtype alone" in reason
    assert "fault of this service" not in reason


def test_but_not_in_one_of_a_larger_range_nor_in_a_number():
    assert judged_as("Infinity", "FP64")[0] == "fail"
    assert judged_as(2.6881171418161356e43)[0] == "pass"
    assert judged_as(2.6881171418161356e43, "FP64")[0] == "pass"
    assert judged_as(2.7e43)[0] == judged_as(0.0)[0] == judged_as(-2.6881171418161356e43)[0] == "fail"


def test_what_overflows_within_an_op_is_no_dispute_either():
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


def test_in_float64_itself_one_route_has_to_be_right():
    """A distance of 1e160 has no square, and PyTorch has no gradient of it."""
    leaves = {"a": [1e160, -3e160], "p": [2e160, 1e160], "n": [-1e160, 4e160]}
    nodes = [{"name": "loss", "op": "triplet_margin_loss", "inputs": ["a", "p", "n"], "swap": False, "margin": 1e161}]
    report = check({"tensors": {}, "weights": leaves, "model": {"nodes": nodes}})
    assert (report["outcome"], "disputes" in report) == ("inconclusive", False)


def cancelling(large, **fields):
    nodes = [{"name": "p", "op": "mul", "inputs": ["w", "x"]}, {"name": "loss", "op": "sum", "inputs": ["p"]}]
    x = [[large, 0.3], [-large, 0.3], [0.01, 0.4]]
    return check({"tensors": {"x": x}, "weights": {"w": [1.0, 1.0]}, "model": {"nodes": nodes}} | fields)


def sent(datatype, first):
    return {"candidate": {"w": {"datatype": datatype, "shape": [2], "data": [first, 1.0]}}}


@pytest.mark.parametrize("part", [{}, {"sample": 2}, {"projections": 4}], ids=["all", "a sample", "along"])
@pytest.mark.parametrize(
    ("large", "fields"),
    [
        (1e5, sent("BF16", -2000.0)),
        (1e5, sent("BF16", 0.0)),
        (1e5, sent("BF16", 0.010009765625)),
        (1e8, {"dtype": "float32"} | sent("FP32", -2.0)),
        (1e8, {"dtype": "float32"}),
        (1e10, {"dtype": "float32"} | sent("FP32", 600.0)),
        (1e17, sent("FP64", -8.0)),
    ],
)
def test_what_rounding_hides_does_not_pass(large, fields, part):
    report = cancelling(large, **fields, finite_difference=part)
    assert report["outcome"] == "inconclusive"
    verdict = report["verdicts"]["w"]
    assert verdict["elements"]["pass"] <= 1
    assert verdict["elements"]["negligible"] == 0


def test_along_directions_only_what_is_known_of_the_norm_counts():
    """In BF16 our own gradient may be nothing but rounding: what it rules out is told by float64."""
    right = {"w": {"datatype": "FP64", "shape": [2], "data": [0.010009765625, 1.001953125]}}
    report = cancelling(1e5, candidate=right, dtype="bfloat16", finite_difference={"projections": 4})
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


def test_of_a_sample_the_largest_of_the_whole_tensor_counts():
    nodes = [{"name": "p", "op": "mul", "inputs": ["w", "x"]}, {"name": "loss", "op": "sum", "inputs": ["p"]}]
    x = [1.0] + [1e-9] * 40
    body = {"tensors": {"x": x}, "weights": {"w": [0.1] * 41}, "model": {"nodes": nodes}}
    verdict = check(body | {"finite_difference": {"sample": 3}})["verdicts"]["w"]
    assert verdict["outcome"] == "pass"
    assert verdict["elements"]["negligible"] == 3
    assert verdict["smallest_detectable_error"] == "Infinity"
