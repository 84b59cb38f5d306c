import dataclasses

import numpy as np
import pytest

from schemas.tensor import Tensor
from service.checks.graph import model_language
from service.checks.graph.check import check
from service.checks.graph.gradient_sources import GradientSources
from service.checks.graph.judge import Judge
from service.checks.graph.problem import build_problem
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.gradients.sources import ANALYTIC, AUTOGRAD
from service.numerics.ops import OP_REGISTRY
from service.numerics.verdict.outcome import Outcome


def differentiate_all(problem, override=None):
    return GradientSources(
        {
            ANALYTIC: analytic.differentiate_analytically(problem.graph, problem.leaves, override),
            AUTOGRAD: autograd.differentiate_by_torch(problem.graph, problem.leaves, problem.reported_names),
        },
        finite_difference.differentiate_numerically(problem.graph, problem.float64_leaves, problem.names),
    )


def parse_problem(body, **fields):
    return build_problem(model_language.parse_check_request(body | fields))


def make_doubled_backward(problem, name):
    node = next(node for node in problem.graph.nodes if node.name == name)
    return {name: lambda gradient, output, *inputs: node.op.backward(2 * gradient, output, *inputs)}


CANDIDATE = {"candidate": {"w1": [[0.0, 0.0], [0.0, 0.0]]}}


def test_without_a_candidate_both_routes_are_judged(example):
    problem = parse_problem(example)
    assert Judge(problem, differentiate_all(problem)).verdict("w1").outcome == Outcome.PASS
    wrong = Judge(problem, differentiate_all(problem, make_doubled_backward(problem, "L1A"))).verdict("w1")
    assert wrong.outcome == Outcome.FAIL
    assert {element.source for element in wrong.worst_elements if element.outcome == Outcome.FAIL} == {"analytic"}


def test_no_candidate_fails_on_the_evidence_of_routes_that_disagree(example):
    problem = parse_problem(example, **CANDIDATE)
    assert Judge(problem, differentiate_all(problem)).verdict("w1").outcome == Outcome.FAIL
    disputed = Judge(problem, differentiate_all(problem, make_doubled_backward(problem, "L1A"))).verdict("w1")
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
def test_candidate_is_judged_in_its_declared_arithmetic(example, fields, name):
    problem = parse_problem(example, **CANDIDATE | fields)
    assert problem.get_precision("w1").name == name
    assert problem.get_precision("w2").name == problem.dtype.precision.name


def test_a_candidate_is_comparable_if_its_shape_fits(example):
    problem = parse_problem(example, **CANDIDATE)
    judge = Judge(problem, differentiate_all(problem))
    assert judge.has_comparable_candidate("w1")
    assert not judge.has_comparable_candidate("w2")
    other = dataclasses.replace(
        problem, request=problem.request.model_copy(update={"candidate": {"w1": Tensor(np.ones(3), None, False)}})
    )
    assert not Judge(other, differentiate_all(problem)).has_comparable_candidate("w1")
    assert Judge(other, differentiate_all(problem)).verdict("w1").outcome == Outcome.FAIL


def test_a_hint_is_given_only_where_it_is_true(example):
    correct = differentiate_all(parse_problem(example)).analytic.gradients["w1"]
    narrow = correct.astype(np.float32).astype(np.float64)
    for candidate, hinted in ((narrow, True), (narrow * 1.1, False), (correct, False)):
        problem = parse_problem(example, candidate={"w1": candidate.tolist()})
        assert ("candidate_dtype" in Judge(problem, differentiate_all(problem)).verdict("w1").reason) == hinted


NARROW = {
    "a gradient beyond the largest number": ("pow", [0.3, 6.0], {"exponent": 10}),
    "a power beyond it": ("pow", [0.01, 0.5], {"exponent": -3.3}),
    "one on PyTorch's way": ("vector_norm", [0.001, 2.0], {"ord": -2}),
}


def check_narrow_op(op, x, attributes, dtype="float16", **fields):
    nodes = [{"name": "out", "op": op, "inputs": ["x"], **attributes}, {"name": "loss", "op": "sum", "inputs": ["out"]}]
    body = {"tensors": {}, "weights": {"x": x}, "dtype": dtype, "model": {"nodes": nodes}}
    return check(body | fields)["verdicts"]["x"]


@pytest.mark.parametrize("case", NARROW.values(), ids=NARROW)
def test_a_range_that_is_too_small_is_no_wrong_gradient(case):
    report = check_narrow_op(*case)
    assert report["outcome"] == "inconclusive"
    assert "because of the range of the dtype alone" in report["reason"]


def test_gradient_nonfinite_in_float64_too_fails(monkeypatch):
    op = OP_REGISTRY["tanh"]
    assert check_narrow_op("tanh", [0.5], {})["outcome"] == "pass"
    monkeypatch.setattr(op, "torch_forward", lambda self, torch, input: torch.tanh(input) * torch.inf)
    for dtype in ("float16", "float64"):
        assert check_narrow_op("tanh", [0.5], {}, dtype)["outcome"] == "fail"


def test_nonfinite_candidate_of_small_range_fails():
    candidate = {"x": {"datatype": "FP16", "shape": [2], "data": ["Infinity", 0.02]}}
    assert check_narrow_op("pow", [0.3, 0.5], {"exponent": 10}, candidate=candidate)["outcome"] == "fail"


EXP = ("exp", [100.0], {}, "float32")


def judge_candidate(given, datatype=None):
    candidate = [given] if datatype is None else {"datatype": datatype, "shape": [1], "data": [given]}
    report = check_narrow_op(*EXP, candidate={"x": candidate})
    return report["outcome"], report["reason"]


@pytest.mark.parametrize("given", ["Infinity", "NaN"])
@pytest.mark.parametrize("datatype", [None, "FP32", "FP16", "BF16"])
def test_overflow_of_the_dtype_is_inconclusive_in_a_candidate_too(given, datatype):
    outcome, reason = judge_candidate(given, datatype)
    assert outcome == "inconclusive"
    assert "because of the range of the dtype alone" in reason
    assert "fault of this service" not in reason


def test_overflow_is_excused_in_a_candidate_of_the_narrow_dtype_alone():
    assert judge_candidate("Infinity", "FP64")[0] == "fail"
    assert judge_candidate(2.6881171418161356e43)[0] == "pass"
    assert judge_candidate(2.6881171418161356e43, "FP64")[0] == "pass"
    assert judge_candidate(2.7e43)[0] == judge_candidate(0.0)[0] == judge_candidate(-2.6881171418161356e43)[0] == "fail"
